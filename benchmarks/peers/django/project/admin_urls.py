from django.contrib import admin
from django.urls import path
from project.urls import urlpatterns

urlpatterns = [*urlpatterns, path("admin/", admin.site.urls)]
