package state

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"

	"github.com/mattn/go-sqlite3"

	"stork/repo"
)

// Errors that callers act on.
var (
	ErrNotFound = errors.New("not found")
	ErrExists   = errors.New("exists already")
	ErrFull     = errors.New("no space left for the state database")
)

// State is an open database.
type State struct {
	path   string
	writer *sql.DB // one connection, so that writers queue here and not in SQLite
	reader *sql.DB // read-only
	now    func() time.Time
}

// Options say where the database is.
type Options struct {
	Path string           // of the database file; two more appear beside it
	Now  func() time.Time // the clock; nil: time.Now
}

// readers is how many queries run beside each other.
const readers = 8

// statements has each connection keep that many statements compiled: most
// calls run a few that are always the same, and compiling takes longer than
// running them.
const statements = "&_stmt_cache_size=64"

// Open opens the database, making or migrating it as needed.
func Open(ctx context.Context, o Options) (*State, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if err := makePrivate(o.Path); err != nil {
		return nil, fmt.Errorf("cannot open state: %w", err)
	}
	writer, err := sql.Open("sqlite3", dsn(o.Path,
		"_journal_mode=WAL&_busy_timeout=5000&_txlock=immediate&_foreign_keys=1&_synchronous=FULL&_cache_size=-65536"+statements))
	if err != nil {
		return nil, fmt.Errorf("cannot open state: %w", err)
	}
	writer.SetMaxOpenConns(1)
	if err := migrate(ctx, writer); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot open state %s: %w", o.Path, err), writer.Close())
	}
	reader, err := sql.Open("sqlite3", dsn(o.Path, "mode=ro&_query_only=1&_busy_timeout=5000&_txlock=deferred&_cache_size=-16384"+statements))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot open state: %w", err), writer.Close())
	}
	reader.SetMaxOpenConns(readers)
	reader.SetMaxIdleConns(readers)
	return &State{path: o.Path, writer: writer, reader: reader, now: o.Now}, nil
}

// makePrivate makes the file before SQLite does, which gives the two beside
// it the same mode.
func makePrivate(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// dsn escapes path, so that a question mark in it adds no parameters.
func dsn(path, parameters string) string {
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + parameters
}

// Close closes the database. What was committed is on disk already.
func (s *State) Close() error {
	return errors.Join(s.reader.Close(), s.writer.Close())
}

// write runs act as one transaction that changes rows.
func (s *State) write(ctx context.Context, what string, act func(*sql.Tx) error) error {
	return inTx(ctx, s.writer, what, act)
}

// writeSoon is write, but what it changes becomes durable with the next write,
// or soon by itself: for what a crash may lose, for all that builds on it comes
// later in the same log.
func (s *State) writeSoon(ctx context.Context, what string, act func(*sql.Tx) error) error {
	conn, err := s.writer.Conn(ctx)
	if err != nil {
		return fmt.Errorf("cannot %s: %w", what, translate(err))
	}
	defer func() {
		_, back := conn.ExecContext(context.WithoutCancel(ctx), "PRAGMA synchronous = FULL")
		if back != nil { // no other write may take this connection
			_ = conn.Raw(func(any) error { return driver.ErrBadConn })
		}
		_ = conn.Close() // goes back, unless it was dropped
	}()
	if _, err := conn.ExecContext(ctx, "PRAGMA synchronous = NORMAL"); err != nil {
		return fmt.Errorf("cannot %s: %w", what, translate(err))
	}
	return inTx(ctx, conn, what, act)
}

// read runs act as one transaction that sees one moment.
func (s *State) read(ctx context.Context, what string, act func(*sql.Tx) error) error {
	return inTx(ctx, s.reader, what, act)
}

// beginner begins transactions.
type beginner interface {
	BeginTx(ctx context.Context, opts *sql.TxOptions) (*sql.Tx, error)
}

func inTx(ctx context.Context, db beginner, what string, act func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("cannot %s: %w", what, translate(err))
	}
	if err := act(tx); err != nil {
		return errors.Join(fmt.Errorf("cannot %s: %w", what, translate(err)), ignoreDone(tx.Rollback()))
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("cannot %s: %w", what, translate(err))
	}
	return nil
}

// ignoreDone drops the error of rolling back what a cancelled context or
// SQLite itself has rolled back.
func ignoreDone(err error) error {
	if err == nil || errors.Is(err, sql.ErrTxDone) {
		return nil
	}
	var lite sqlite3.Error
	if errors.As(err, &lite) && lite.Code == sqlite3.ErrError {
		return nil // "no transaction is active"
	}
	return err
}

// translate gives SQLite's errors the names that callers know.
func translate(err error) error {
	var lite sqlite3.Error
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return ErrNotFound
	case !errors.As(err, &lite):
		return err
	case lite.Code == sqlite3.ErrFull:
		return fmt.Errorf("%w: %v", ErrFull, err)
	case lite.ExtendedCode == sqlite3.ErrConstraintPrimaryKey || lite.ExtendedCode == sqlite3.ErrConstraintUnique:
		return fmt.Errorf("%w: %v", ErrExists, err)
	case lite.ExtendedCode == sqlite3.ErrConstraintForeignKey:
		return fmt.Errorf("%w: %v", ErrNotFound, err)
	}
	return err
}

// digest reads a column of 32 bytes.
func digest(b []byte) (repo.Digest, error) {
	var d repo.Digest
	if len(b) != len(d) {
		return d, fmt.Errorf("cannot read digest: %d bytes in the database", len(b))
	}
	copy(d[:], b)
	return d, nil
}
