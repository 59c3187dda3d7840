package store

import (
	"database/sql"
	"errors"
	"path/filepath"
	"testing"

	"github.com/sluice-cd/sluice/engine/plan"
)

// A file that takes no writes is told from one that another process holds.
func TestReadOnlyFileIsNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sluice.db")
	open := func(query string) *sql.DB {
		db, err := sql.Open("sqlite", "file:"+file+query)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { db.Close() })
		return db
	}
	if _, err := open("").Exec(`CREATE TABLE t (a)`); err != nil {
		t.Fatal(err)
	}
	_, err := open("?mode=ro").Exec(`INSERT INTO t VALUES (1)`)
	err = wrapError("write", err)
	if !errors.Is(err, plan.ErrReadOnly) || errors.Is(err, plan.ErrBusy) || errors.Is(err, plan.ErrFull) {
		t.Errorf("%v, not ErrReadOnly alone", err)
	}
}
