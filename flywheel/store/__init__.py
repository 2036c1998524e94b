"""All SQL of the project. The tables are a public interface: documented, migrated, readable by any DuckDB."""
