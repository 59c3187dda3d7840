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

// SQLSTATE codes, from appendix A of PostgreSQL's manual.
const (
	diskFull           = "53100"
	tooManyConnections = "53300"
	lockNotAvailable   = "55P03" // lock_timeout too
	queryCanceled      = "57014" // statement_timeout too
	readOnly           = "25006" // the primary became a standby
	serialization      = "40001"
	deadlock           = "40P01"
	idleInTransaction  = "25P03" // the reason why the session was ended
	invalidPassword    = "28P01"
	invalidAuth        = "28000"
	noSuchDatabase     = "3D000"
	insufficientRights = "42501"
	// Classes: prefixes of codes.
	connection   = "08"
	intervention = "57P" // shut down, crashed, or starting
	badData      = "22"
	integrity    = "23"
	programLimit = "54"
)

// What keeps a store from opening, beside what package plan names.
var (
	ErrUser       = errors.New("PostgreSQL refuses the user or the password")
	ErrNoDatabase = errors.New("PostgreSQL has no such database")
	ErrNotOwner   = errors.New("the user may not do that in the database")
)

func sqlState(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

// isSessionEnded reports whether the server ended the session, or refused to begin one.
func isSessionEnded(err error) bool {
	c := sqlState(err)
	if strings.HasPrefix(c, connection) || strings.HasPrefix(c, intervention) || c == idleInTransaction ||
		c == tooManyConnections {
		return true
	}
	var connect *pgconn.ConnectError
	return c == "" && errors.As(err, &connect)
}

// isNetworkError reports whether an error is of the connection, not an answer of the server.
func isNetworkError(err error) bool {
	var n net.Error
	return sqlState(err) == "" && (errors.As(err, &n) || errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, pgconn.ErrConnClosed) || pgconn.SafeToRetry(err))
}

// isTransient reports whether another attempt may succeed at once.
func isTransient(err error) bool {
	switch sqlState(err) {
	case serialization, deadlock, readOnly:
		return true
	}
	return errors.Is(err, errConnectionLost) || errors.Is(err, errRetry) || isSessionEnded(err)
}

// isDataError reports whether an error is about the written data, not about the database.
func isDataError(err error) bool {
	c := sqlState(err)
	return strings.HasPrefix(c, badData) || strings.HasPrefix(c, integrity) || strings.HasPrefix(c, programLimit)
}

// wrapError adds the operation, and the cause as an error value of package plan or of this one, where one applies.
func wrapError(op string, err error) error {
	if err == nil {
		return nil
	}
	switch c := sqlState(err); {
	case c == diskFull:
		return fmt.Errorf("%s: %w: %w", op, plan.ErrFull, err)
	case c == invalidPassword, c == invalidAuth:
		return fmt.Errorf("%s: %w: %w", op, ErrUser, err)
	case c == noSuchDatabase:
		return fmt.Errorf("%s: %w: %w", op, ErrNoDatabase, err)
	case c == insufficientRights:
		return fmt.Errorf("%s: %w: %w", op, ErrNotOwner, err)
	case c == tooManyConnections:
		return fmt.Errorf("%s: %w: %w", op, plan.ErrCrowded, err)
	case errors.Is(err, plan.ErrReadOnly): // a standby: the primary may be back in a moment
		return fmt.Errorf("%s: %w: %w", op, plan.ErrBusy, err)
	case c == readOnly:
		return fmt.Errorf("%s: %w: %w: %w", op, plan.ErrBusy, plan.ErrReadOnly, err)
	case errors.Is(err, errConnectionLost), isSessionEnded(err):
		return fmt.Errorf("%s: %w: %w", op, plan.ErrAway, err)
	case isTransient(err), c == lockNotAvailable, c == queryCanceled, errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: %w: %w", op, plan.ErrBusy, err)
	}
	return fmt.Errorf("%s: %w", op, err)
}
