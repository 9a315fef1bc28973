"""One row of the report, its schema, and the files that hold reports."""
