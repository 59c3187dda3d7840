package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sluice-cd/sluice/engine/plan"
)

// SQLSTATE codes, as PostgreSQL's manual lists them in its appendix A.
const (
	diskFull           = "53100"
	tooManyConnections = "53300"
	lockNotAvailable   = "55P03" // also lock_timeout
	queryCanceled      = "57014" // also statement_timeout
	readOnly           = "25006" // the primary became a standby
	serialization      = "40001"
	deadlock           = "40P01"
	idleInTransaction  = "25P03" // the session was ended for it
	invalidPassword    = "28P01"
	invalidAuth        = "28000"
	noSuchDatabase     = "3D000"
	insufficientRights = "42501"
	// Classes: how codes begin.
	connection   = "08"
	intervention = "57P" // shut down, crashed, starting
	badData      = "22"
	integrity    = "23"
	programLimit = "54"
)

func sqlState(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

// isSessionEnded tells whether the server ended the session, or let none begin.
func isSessionEnded(err error) bool {
	c := sqlState(err)
	if strings.HasPrefix(c, connection) || strings.HasPrefix(c, intervention) || c == idleInTransaction || c == tooManyConnections {
		return true
	}
	var connect *pgconn.ConnectError
	return c == "" && errors.As(err, &connect)
}

// isNetworkError tells whether an error is of the connection itself, not the server's answer.
func isNetworkError(err error) bool {
	var n net.Error
	return sqlState(err) == "" && (errors.As(err, &n) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || pgconn.SafeToRetry(err))
}

// isTransient tells whether another attempt may succeed at once.
func isTransient(err error) bool {
	switch sqlState(err) {
	case serialization, deadlock, readOnly:
		return true
	}
	return errors.Is(err, errConnectionLost) || errors.Is(err, errRetry) || isSessionEnded(err)
}

// isDataError tells whether an error is about what was written, not about the database.
func isDataError(err error) bool {
	c := sqlState(err)
	return strings.HasPrefix(c, badData) || strings.HasPrefix(c, integrity) || strings.HasPrefix(c, programLimit)
}

// wrapError names the operation, and says busy, full and closed in the engine's words.
func wrapError(op string, err error) error {
	if err == nil {
		return nil
	}
	switch c := sqlState(err); {
	case c == diskFull:
		return fmt.Errorf("%s: %w: %w", op, plan.ErrFull, err)
	case c == invalidPassword, c == invalidAuth:
		return fmt.Errorf("%s: %w: check the user, and the password in PGPASSWORD or a password file", op, err)
	case c == noSuchDatabase:
		return fmt.Errorf("%s: %w: create it, and let the user own it", op, err)
	case c == insufficientRights:
		return fmt.Errorf("%s: %w: let the user own the database", op, err)
	case isTransient(err), c == lockNotAvailable, c == queryCanceled, errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: %w: %w", op, plan.ErrBusy, err)
	}
	return fmt.Errorf("%s: %w", op, err)
}
