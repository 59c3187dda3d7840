package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// adminTimeout bounds one administrative statement.
const adminTimeout = 30 * time.Second

// Create makes an empty database on the server of an address, and returns the address of the new one.
func Create(ctx context.Context, server string) (string, error) {
	u, err := parseAddress(server)
	if err != nil {
		return "", err
	}
	u.Path = "/sluice_" + strings.ToLower(rand.Text())
	if err := execAdmin(ctx, u, "CREATE DATABASE "+quotedName(u)); err != nil {
		return "", fmt.Errorf("create a database: %w", err)
	}
	return u.String(), nil
}

// Drop removes the database of an address, even while sessions use it.
func Drop(ctx context.Context, database string) error {
	u, err := parseAddress(database)
	if err != nil {
		return err
	}
	if err := execAdmin(ctx, u, "DROP DATABASE IF EXISTS "+quotedName(u)+" WITH (FORCE)"); err != nil {
		return fmt.Errorf("drop a database: %w", err)
	}
	return nil
}

// KillSessions ends every session of the database of an address, whatever the session is doing (fault 11).
func KillSessions(ctx context.Context, database string) error {
	u, err := parseAddress(database)
	if err != nil {
		return err
	}
	const kill = `SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = $1`
	if err := execAdmin(ctx, u, kill, databaseName(u)); err != nil {
		return fmt.Errorf("kill sessions: %w", err)
	}
	return nil
}

// execAdmin runs one statement in the database postgres of the same server.
func execAdmin(ctx context.Context, server url.URL, statement string, args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	server.Path = "/postgres"
	conn, err := pgx.Connect(ctx, server.String())
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement, args...)
	_ = conn.Close(ctx) // nothing can be lost
	return err
}

func parseAddress(address string) (url.URL, error) {
	u, err := url.Parse(address)
	if err != nil {
		return url.URL{}, errors.New("the address of a database is not a URL") // err may quote a password
	}
	return *u, nil
}

func databaseName(u url.URL) string { return strings.TrimPrefix(u.Path, "/") }

func quotedName(u url.URL) string { return pgx.Identifier{databaseName(u)}.Sanitize() }
