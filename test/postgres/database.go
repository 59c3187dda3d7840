package postgres

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// adminTimeout bounds what an administrator does.
const adminTimeout = 30 * time.Second

// Create makes an empty database on the server of an address, and gives the new one's address.
func Create(ctx context.Context, server string) (string, error) {
	name := "sluice_" + strings.ToLower(rand.Text())
	address, err := at(server, name)
	if err != nil {
		return "", err
	}
	if err := execAdmin(ctx, server, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()); err != nil {
		return "", fmt.Errorf("create a database: %w", err)
	}
	return address, nil
}

// Drop removes the database of an address, whoever uses it.
func Drop(ctx context.Context, database string) error {
	name, err := nameOf(database)
	if err != nil {
		return err
	}
	if err := execAdmin(ctx, database, "DROP DATABASE IF EXISTS "+pgx.Identifier{name}.Sanitize()+" WITH (FORCE)"); err != nil {
		return fmt.Errorf("drop a database: %w", err)
	}
	return nil
}

// KillSessions ends every session with the database of an address, in the middle of what it does (fault 11).
func KillSessions(ctx context.Context, database string) error {
	name, err := nameOf(database)
	if err != nil {
		return err
	}
	if err := execAdmin(ctx, database, `SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = $1`, name); err != nil {
		return fmt.Errorf("kill sessions: %w", err)
	}
	return nil
}

// execAdmin runs one statement in the database postgres, of the same server.
func execAdmin(ctx context.Context, address, statement string, args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	address, err := at(address, "postgres")
	if err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement, args...)
	_ = conn.Close(ctx) // there is nothing that it could lose
	return err
}

// at is the address of another database of the same server.
func at(address, database string) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", fmt.Errorf("the address of a database is no URL") // which may hold a password
	}
	u.Path = "/" + database
	return u.String(), nil
}

func nameOf(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", fmt.Errorf("the address of a database is no URL")
	}
	return strings.TrimPrefix(u.Path, "/"), nil
}
