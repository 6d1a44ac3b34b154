FROM python:3.11-slim AS dependencies
WORKDIR /app
COPY requirements.txt .
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir --no-deps --require-hashes -r requirements.txt

FROM python:3.11-slim
RUN useradd --system --no-create-home groundwork
WORKDIR /app
COPY --from=dependencies /venv /venv
COPY pyproject.toml piccolo_conf.py main.py ./
COPY audit audit
COPY home home
COPY sync_history sync_history
RUN printf '#!/bin/sh\nPYTHONPATH=/app exec /venv/bin/python -P -m home "$@"\n' > /venv/bin/groundwork \
    && chmod +x /venv/bin/groundwork
# Compiled once, and not by each worker anew.
RUN python -m compileall -q audit home sync_history main.py piccolo_conf.py
ENV PATH=/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 LISTEN_HOST=0.0.0.0
USER groundwork
EXPOSE 8000
HEALTHCHECK CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health/live', timeout=2)"]
CMD ["python", "main.py"]
