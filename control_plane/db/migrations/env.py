"""Where alembic finds the connection: migrate() hands its own over, inside a transaction that it ends itself."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], version_table_schema="catalyst")
context.run_migrations()
