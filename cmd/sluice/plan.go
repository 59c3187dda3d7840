package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/engine/plan"
)

func (a *app) planVerb() *cobra.Command {
	var file, at string
	cmd := &cobra.Command{
		Use:     "plan",
		GroupID: groupLook,
		Short:   "Show what the engine would do now, and what is blocked and why",
		Long: `Decides as the engine would, and does nothing: what it would promote, roll back and grant, with the evidence;
what is blocked, by which gate and until when; and when it would look again. The same input gives the same
bytes. What was observed is read from --observed FILE, or from the store in --data DIR; without both, nothing was.

` + observedHelp,
		Example: `  sluice plan --repo https://git.example/releases --data /var/lib/sluice
  sluice plan --observed observed.json --now 2026-11-24T09:00:00Z -o json`,
		Args: arguments(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			now := time.Now().UTC()
			if at != "" {
				var err error
				if now, err = time.Parse(time.RFC3339, at); err != nil {
					return usage(cmd, "--now %s is not a time like 2026-11-24T09:00:00Z", at)
				}
			}
			observed, err := a.observed(cmd.Context(), file)
			if err != nil {
				return err
			}
			repo, err := a.open(cmd.Context(), cmd, committer{})
			if err != nil {
				return err
			}
			defer repo.Close()
			s, err := repo.snapshot(cmd.Context())
			if err != nil {
				return err
			}
			p := plan.Make(s.desired.WithCells(&observed), &observed, now)
			if done, err := a.encode(p); done {
				return err
			}
			a.printPlan(p)
			return nil
		},
	}
	cmd.Flags().StringVar(&file, "observed", "", "observation `FILE`; - is standard input")
	cmd.Flags().StringVar(&at, "now", "", "decide as of this `INSTANT` (RFC 3339; default: now)")
	return cmd
}

// observed reads what was observed: from a file, or from the store in --data. Neither: nothing was.
func (a *app) observed(ctx context.Context, file string) (plan.Observed, error) {
	none := plan.Observed{Cells: map[string]*plan.CellState{}}
	switch {
	case file != "":
		data, err := a.readFile(file, maxObserved)
		if err != nil {
			return none, fail(fmt.Errorf("read what was observed: %w", err), "--observed names a JSON file: see sluice help plan")
		}
		o, faults := parseObserved(file, data)
		if len(faults) > 0 {
			for _, f := range faults[:len(faults)-1] {
				a.stderr.line("%s", f)
			}
			return none, fail(errors.New(faults[len(faults)-1].String()), "sluice help plan describes the file")
		}
		return o, nil
	case a.data == "" && a.database == "":
		return none, nil
	}
	if _, err := os.Stat(filepath.Join(a.data, storeFile)); a.database == "" && errors.Is(err, fs.ErrNotExist) {
		return none, nil // nothing ran here yet, and looking makes no store
	}
	st, err := a.openStore(ctx, a.logger())
	if err != nil {
		return none, err
	}
	defer st.Close()
	o, err := st.Known(ctx)
	if err == nil {
		o.Cells, err = st.Cells(ctx)
	}
	return o, err
}

// storeFile is the store's name in --data.
const storeFile = "sluice.db"

// readFile reads a file, or standard input for -, up to one byte more than most.
func (a *app) readFile(file string, most int64) ([]byte, error) {
	in := a.stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	return io.ReadAll(io.LimitReader(in, most+1))
}

func (a *app) printPlan(p plan.Plan) {
	a.stdout.line("at commit %s, %s", short(p.Commit), stamp(p.Now))
	rows := make([][]field, 0, len(p.Actions))
	for _, act := range p.Actions {
		what := act.Reason
		if len(act.Evidence) > 0 {
			what = strings.Join(act.Evidence, "; ")
		}
		if act.Kind == plan.Grant {
			what = "to " + some(act.Cells)
		}
		rows = append(rows, []field{{string(act.Kind), green}, text(act.Channel), text(act.Release), text(orDash(act.Replaces)), text(what)})
	}
	a.section("would do", []string{"ACTION", "CHANNEL", "RELEASE", "REPLACES", "BECAUSE"}, rows)
	rows = rows[:0]
	for _, v := range p.Blocked {
		rows = append(rows, []field{text(v.Channel), text(orDash(v.Cell)), text(orDash(v.Release)), {v.Gate, yellow}, text(stamp(v.Until)), text(v.Reason)})
	}
	a.section("blocked", []string{"CHANNEL", "CELL", "RELEASE", "GATE", "UNTIL", "REASON"}, rows)
	switch {
	case !p.Next.IsZero():
		a.stdout.line("\ntime alone changes this at %s", stamp(p.Next))
	case len(p.Blocked) > 0:
		a.stdout.line("\ntime alone changes nothing: a report, an answer or a commit does")
	}
}

// section prints a titled table, or that it would be empty.
func (a *app) section(title string, heading []string, rows [][]field) {
	if len(rows) == 0 {
		a.stdout.line("\n%s: nothing", a.stdout.paint(bold, title))
		return
	}
	a.stdout.line("\n%s:", a.stdout.paint(bold, title))
	a.stdout.table(heading, rows)
}

// some lists names, cut short.
func some(names []string) string {
	const few = 5
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
}
