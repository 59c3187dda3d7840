package storetest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os/exec"
	"testing"

	"github.com/sluice-cd/sluice/engine/plan"
)

// childWriters is how many cells the child reports for at once.
const childWriters = 8

// Child reports for a few cells at once until killed, and writes a line "cell number" to out for every acknowledged
// report. An implementation's TestMain calls it in the child process. It continues from the numbers in the store.
func Child(ctx context.Context, s Store, out io.Writer) error {
	o, err := s.Observed(ctx)
	if err != nil {
		return err
	}
	failed := make(chan error, childWriters)
	for w := range childWriters {
		go func() {
			name := fmt.Sprintf("cell-%d", w)
			n := int64(1)
			if c := o.Cells[name]; c != nil {
				n = c.Version + 1
			}
			for ; ; n++ { // number, sequence and version are equal here
				if err := s.RecordReports(ctx, []plan.Reported{{State: versioned(state(name, n), n), Boot: "b",
					Events: events(n, n)}}); err != nil {
					failed <- err
					return
				}
				fmt.Fprintf(out, "%s %d\n", name, n)
			}
		}()
	}
	return <-failed
}

// Kill tests invariant 8 with real processes: what a child got acknowledged before a kill -9 is there afterwards,
// whole. child returns the command that calls Child on the database that open opens.
func Kill(t *testing.T, open Open, child func(t *testing.T) *exec.Cmd) {
	acknowledged := map[string]int64{}
	for round := range 5 {
		cmd := child(t)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ { // to the end: the pipe has reports acknowledged just before the kill
			if n == 50+37*round {
				must(t, cmd.Process.Kill())
			}
			var cell string
			var number int64
			if c, _ := fmt.Sscanf(lines.Text(), "%s %d", &cell, &number); c == 2 {
				acknowledged[cell] = number
			}
		}
		cmd.Wait() // an error, since it was killed
		verify(t, open, acknowledged)
	}
	if len(acknowledged) != childWriters {
		t.Errorf("%d cells reported, not %d", len(acknowledged), childWriters)
	}
}

func verify(t *testing.T, open Open, acknowledged map[string]int64) {
	t.Helper()
	s := open(t, nil)
	defer s.Close()
	o := observed(t, s)
	for cell, number := range acknowledged {
		c := o.Cells[cell]
		if c == nil || c.Sequence < number || c.Version != c.Sequence {
			t.Fatalf("%s: report %d was acknowledged, and after a kill the store has %+v", cell, number, c)
		}
		wantSame(t, "the state of "+cell, state(cell, c.Sequence), c)
		kept, err := s.Events(t.Context(), cell, 1<<20)
		must(t, err)
		wantSame(t, "the events of "+cell, events(1, c.Sequence), kept)
	}
}
