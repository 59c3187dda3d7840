package rows

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
)

// Encode encodes a value as JSON, the format in which values are stored.
func Encode(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}

// Decode keeps numbers as they were written: a cell's values must come back as the same JSON.
func Decode(body string, v any) error {
	d := json.NewDecoder(strings.NewReader(body))
	d.UseNumber()
	return d.Decode(v)
}

// DecodeAll decodes bodies[i] into all[i], on all processors, so that ten thousand cells don't delay a start.
func DecodeAll[T any](bodies []string, all []T) error {
	var g errgroup.Group
	part := max(64, (len(bodies)+runtime.GOMAXPROCS(0)-1)/runtime.GOMAXPROCS(0))
	for from := 0; from < len(bodies); from += part {
		g.Go(func() error {
			for i := from; i < min(from+part, len(bodies)); i++ {
				if err := Decode(bodies[i], &all[i]); err != nil {
					return fmt.Errorf("%w in %.80s", err, bodies[i])
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// DecodeStates decodes cells' states, by name. versions[i] belongs to bodies[i].
func DecodeStates(bodies []string, versions []int64) (map[string]*plan.CellState, error) {
	states := make([]plan.CellState, len(bodies))
	if err := DecodeAll(bodies, states); err != nil {
		return nil, fmt.Errorf("a cell's state: %w", err)
	}
	all := make(map[string]*plan.CellState, len(states))
	for i := range states {
		states[i].Version = versions[i]
		_ = states[i].Owner.Validate() // it was valid when reported; Check prepares its windows
		all[states[i].Name] = &states[i]
	}
	return all, nil
}

// ApplyGrant applies a grant, made at granted (RFC 3339), to the states: the writer of a state may not have seen the
// newest grant. A cell with a grant that never reported gets a state with nothing else.
func ApplyGrant(states map[string]*plan.CellState, cell, assignment, granted string) error {
	at, err := time.Parse(time.RFC3339Nano, granted)
	if err != nil {
		return fmt.Errorf("the grant of %s: %w", cell, err)
	}
	a := &cells.Assignment{}
	if err := Decode(assignment, a); err != nil {
		return fmt.Errorf("the grant of %s: %w", cell, err)
	}
	c := states[cell]
	if c == nil {
		c = &plan.CellState{Name: cell}
		states[cell] = c
	}
	if c.Granted == nil || !cells.Newer(*c.Granted, *a) {
		c.SetGrant(*a, at)
	}
	return nil
}
