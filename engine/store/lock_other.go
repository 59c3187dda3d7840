//go:build !linux

package store

import "errors"

// leaseLock does nothing here: a dead holder's lease expires.
type leaseLock struct{ file string }

func (l *leaseLock) lockTerm(int64) error { return errors.ErrUnsupported }

func (l *leaseLock) isTermFree(int64) bool { return false }

func (l *leaseLock) close() {}
