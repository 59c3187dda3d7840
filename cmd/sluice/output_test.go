package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/cmd/sluice/internal/cli"
)

// fullDisk accepts room bytes and no more.
type fullDisk struct{ room int }

func (d *fullDisk) Write(b []byte) (int, error) {
	n := min(d.room, len(b))
	d.room -= n
	if n < len(b) {
		return n, errors.New("no space left on device")
	}
	return n, nil
}

// Output that is cut short is a failure, in every form.
func TestAnswerThatCannotBeWrittenFails(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"help"}, {"version", "-o", "json"}, {"completion", "bash"}} {
		for _, room := range []int{0, 3} {
			var said bytes.Buffer
			if code := run(context.Background(), args, os.Environ(), nil, &fullDisk{room},
				&said); code != cli.ExitFailed {
				t.Errorf("%v: exit code %d, want %d", args, code, cli.ExitFailed)
			}
			if !strings.Contains(said.String(), "no space left on device") {
				t.Errorf("%v: said %q", args, said.String())
			}
		}
	}
}
