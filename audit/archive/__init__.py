"""Old rows of the trail in Parquet files: moved there and read again. Needs the extra `archive`."""
