package state

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrate brings the schema to the newest version.
func migrate(ctx context.Context, db *sql.DB) error {
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return err
	}
	return migrateBy(ctx, db, files)
}

// migrateBy brings the schema to the version that the files make, each step
// with its number in one transaction. A database that a newer program has
// written is refused.
func migrateBy(ctx context.Context, db *sql.DB, files []string) error {
	return inTx(ctx, db, "migrate", func(tx *sql.Tx) error {
		var version int
		if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
			return err
		}
		if version > len(files) {
			return fmt.Errorf("the database has version %d, this program knows %d: use a newer nestd", version, len(files))
		}
		for n := version; n < len(files); n++ {
			text, err := fs.ReadFile(migrations, files[n])
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, string(text)); err != nil {
				return fmt.Errorf("%s: %w", files[n], err)
			}
			if _, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", n+1)); err != nil {
				return err
			}
		}
		return nil
	})
}
