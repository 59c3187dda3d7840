package ownercmd

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cells/agent/clock"
	"github.com/sluice-cd/sluice/cells/agent/debugfolder"
	"github.com/sluice-cd/sluice/cells/agent/plane"
	"github.com/sluice-cd/sluice/cells/debug"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/internal/words"
)

const debugHelp = `For the cell's owner, on the cell's machine: nothing is asked of the network. The vendor's people ask
for access (sluice debug request); nothing lets them in but the owner's approval here. Each approval
is for one session, which has to begin within 10 minutes. docs/debug.md says what the vendor's
servers can and can't do.`

func cellDebugVerb(a *cli.App) *cobra.Command {
	return cli.Group("debug", "Let the vendor's people debug this cell, or don't; watch and stop them", debugHelp,
		debugListVerb(a), debugShowVerb(a), debugApproveVerb(a), debugDenyVerb(a), debugWatchVerb(a), debugStopVerb(a))
}

// debugRequest is a request as the owner sees it.
type debugRequest struct {
	ID       string       `json:"id"`
	State    string       `json:"state"`
	Person   string       `json:"person"`
	Key      string       `json:"key"` // fingerprint
	Vouched  string       `json:"vouched,omitempty"`
	Case     string       `json:"case"`
	Reason   string       `json:"reason"`
	Scope    debug.Scope  `json:"scope"`
	For      string       `json:"for"`
	Received time.Time    `json:"received"`
	Expires  time.Time    `json:"expires"`
	Left     string       `json:"left,omitempty"` // of the session that lasts
	Pod      *debug.Pod   `json:"pod,omitempty"`  // that a shell is permitted in
	Denied   string       `json:"denied,omitempty"`
	Record   *debugRecord `json:"record,omitempty"`
	Pending  []string     `json:"pending,omitempty"` // the command that waits for the owner
	CellKey  string       `json:"cellKey,omitempty"` // fingerprint
}

// debugRecord is what the owner has of a session's record.
type debugRecord struct {
	File   string `json:"file"`
	Hash   string `json:"hash,omitempty"`
	Length int64  `json:"length,omitempty"`
	Ended  string `json:"ended,omitempty"` // why the session ended
	Intact bool   `json:"intact"`          // the file is what the seal says
}

// moment returns now by the machine's monotonic clock.
func moment(cmd *cobra.Command) (debug.Moment, error) {
	boot, since, ok := clock.ReadMonotonic()
	if !ok {
		return debug.Moment{}, cli.Fail(fmt.Errorf("%sthis machine has no clock that no one can set, and by such a "+
			"clock a permission ends", cli.CommandPrefix(cmd)), "approve on a Linux machine")
	}
	return debug.Moment{Boot: boot, Since: since}, nil
}

func newDebugRequest(e *debugfolder.Entry, at debug.Moment, now time.Time) debugRequest {
	r := &e.Request
	d := debugRequest{ID: e.ID, State: string(e.State(at, now)), Person: r.Person, Key: r.Fingerprint(),
		Vouched: e.Vouched, Case: r.Case, Reason: r.Reason, Scope: r.Scope, For: words.ExactDuration(r.For),
		Received: e.Received, Expires: r.Expires}
	if e.Denied != nil {
		d.Denied = e.Denied.Reason
	}
	if e.Permission != nil {
		d.Pod = e.Permission.Pod
	}
	if d.State == string(debugfolder.Live) {
		d.Left = words.ExactDuration(e.Permission.Left(e.Begun.Moment, at).Round(time.Second))
	}
	return d
}

func findDebugFolder(a *cli.App, cmd *cobra.Command) func() (debugfolder.Folder, error) {
	folder := findStateFolder(a, cmd)
	return func() (debugfolder.Folder, error) {
		state, err := folder()
		return debugfolder.Of(state), err
	}
}

func debugListVerb(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Args: cli.ArgumentCount(0, 0, ""),
		Short:   "Requests for debug access to this cell, and what became of them",
		Example: `  sluice cell debug list --state /var/lib/sluice`}
	folder := findDebugFolder(a, cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		f, err := folder()
		if err != nil {
			return err
		}
		at, err := moment(cmd)
		if err != nil {
			return err
		}
		entries, err := f.List()
		if err != nil { // beside those that can be read
			a.Stderr.PrintLine("%s%s", cli.CommandPrefix(cmd), err)
		}
		now, all := time.Now(), []debugRequest{}
		for i := range entries {
			all = append(all, newDebugRequest(&entries[i], at, now))
		}
		return a.PrintResult(all, func() { printDebugRequests(a, all) })
	}
	return cmd
}

func printDebugRequests(a *cli.App, all []debugRequest) {
	if len(all) == 0 {
		a.Stdout.PrintLine("no one has asked for debug access")
		return
	}
	var rows [][]cli.Field
	for _, d := range all {
		state := d.State
		if d.Left != "" {
			state += ", " + d.Left + " left"
		}
		vouched := cli.Text(d.Vouched)
		if d.Vouched == "" {
			vouched = cli.Text("no")
		}
		rows = append(rows, []cli.Field{cli.Text(d.ID), cli.Text(state), cli.Text(d.Person), vouched, cli.Text(d.Case),
			cli.Text(string(d.Scope)), cli.Text(d.For), cli.Text(d.Reason)})
	}
	a.Stdout.PrintTable([]string{"ID", "STATE", "PERSON", "VOUCHED", "CASE", "SCOPE", "FOR", "REASON"}, rows)
}

func debugShowVerb(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{Use: "show [ID]", Args: cli.ArgumentCount(0, 1, "ID"),
		Short: "Show a request: who asks, by which key, and what the person could do",
		Long: `Without ID, shows the newest request. The beginning of an ID is enough. With the scope read or
exec:NAME, it prints the commands that the running release declares, and with the scope logs the logs
that could be read: nothing else can be. Once the session is over, it compares the record with its
seal.`,
		Example: `  sluice cell debug show --state /var/lib/sluice`}
	folder := findDebugFolder(a, cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f, err := folder()
		if err != nil {
			return err
		}
		e, err := findRequest(cmd, f, args, func(*debugfolder.Entry) bool { return true })
		if err != nil {
			return err
		}
		at, err := moment(cmd)
		if err != nil {
			return err
		}
		d := newDebugRequest(&e, at, time.Now())
		if d.Record, err = readRecord(f, &e); err != nil {
			return fmt.Errorf("%s%w", cli.CommandPrefix(cmd), err)
		}
		if p, err := f.Pending(e.ID); err == nil && p != nil {
			d.Pending = p.Command
		}
		d.CellKey = cellKey(f)
		_ = f.NoteShown(&e) // who may not write here can't approve either
		help, err := helpFor(f, &e)
		if err != nil {
			return fmt.Errorf("%s%w", cli.CommandPrefix(cmd), err)
		}
		return a.PrintResult(d, func() { printDebugRequest(a, d, help) })
	}
	return cmd
}

// cellKey returns the fingerprint of the cell's key; empty: it has none, as without a registration.
func cellKey(f debugfolder.Folder) string {
	key, err := plane.PublicKey(filepath.Dir(string(f)))
	if err != nil || key == nil {
		return ""
	}
	return debug.Fingerprint(key)
}

// helpFor lists what a session of the request could run or read; empty: everything, in a shell.
func helpFor(f debugfolder.Folder, e *debugfolder.Entry) (string, error) {
	switch e.Request.Scope {
	case debug.Shell:
		return "", nil
	case debug.Logs:
		logs, err := f.Logs(e)
		return logs.Help(), err
	}
	commands, err := f.Commands(e)
	return commands.Help(e.Request.Scope.Command()), err
}

// findRequest returns the request of args, or the newest for which wanted holds.
func findRequest(cmd *cobra.Command, f debugfolder.Folder, args []string, wanted func(*debugfolder.Entry) bool) (
	debugfolder.Entry, error) {
	e, err := f.Find(strings.Join(args, ""), wanted)
	switch {
	case errors.Is(err, debugfolder.ErrNotFound):
		return e, cli.Fail(fmt.Errorf("%sthere is no such request", cli.CommandPrefix(cmd)),
			"sluice cell debug list shows all that this cell knows")
	case err != nil:
		return e, fmt.Errorf("%s%w", cli.CommandPrefix(cmd), err)
	}
	return e, nil
}

func printDebugRequest(a *cli.App, d debugRequest, help string) {
	p := a.Stdout
	p.PrintLine("request %s: %s", d.ID, d.State)
	if d.Left != "" {
		p.PrintLine("  the session ends in %s at the latest", d.Left)
	}
	p.PrintLine("  who      %s", d.Person)
	p.PrintLine("  key      %s", d.Key)
	if d.Vouched != "" {
		p.PrintLine("           vouched for by release signers as a key of %s", d.Vouched)
	} else {
		p.PrintLine("           not vouched for by release signers: compare it with what the person tells you")
	}
	p.PrintLine("  case     %s", d.Case)
	p.PrintLine("  reason   %s", d.Reason)
	p.PrintLine("  wants    to %s, for %s", d.Scope.Describe(), d.For)
	if d.Pod != nil {
		p.PrintLine("  where    in the %s (UID %s)", d.Pod, d.Pod.UID)
	}
	p.PrintLine("  expires  %s", words.FormatTime(d.Expires))
	if d.CellKey != "" {
		p.PrintLine("  this is  %s, the cell's key: the person connects with --cell-key and this", d.CellKey)
	}
	if d.Denied != "" {
		p.PrintLine("  denied   %s", d.Denied)
	}
	if len(d.Pending) > 0 {
		p.PrintLine("  waits    for your answer in sluice cell debug watch: %s", words.Shell(d.Pending...))
	}
	if r := d.Record; r != nil {
		p.PrintLine("  record   %s", r.File)
		if r.Hash != "" {
			state := "the file is as the cell sealed it"
			if !r.Intact {
				state = "THE FILE WAS CHANGED since the cell sealed it"
			}
			p.PrintLine("           %s of %d bytes; %s", r.Hash, r.Length, state)
			p.PrintLine("  ended    %s", r.Ended)
		}
	}
	if help != "" {
		p.PrintLine("%s", map[bool]string{false: "commands that could be run:",
			true: "logs that could be read:"}[d.Scope == debug.Logs])
		p.PrintText("  ", strings.TrimSuffix(help, "\n"))
	}
}

func debugApproveVerb(a *cli.App) *cobra.Command {
	var p debug.Permission
	var in podFlags
	cmd := &cobra.Command{Use: "approve ID", Args: cli.ArgumentCount(1, 1, "ID"),
		Short: "Permit one session for a request",
		Long: `The whole ID is needed: it names all that the request says, and no other request can have it.

The person whose key signed the request, and no one else, can begin one session within 10 minutes. It
ends after the time that was asked for, or after --for, and at once by sluice cell debug stop. All of
it is recorded in the agent's state folder, with what is typed, passwords included; the vendor gets the
record, too, unless --withhold keeps it here: the vendor then has its hash and length.

What a session changes is drift: it is healed when the session ends, or held and shown with
--keep-changes.

A shell is one of the agent's machine, or with --pod of a container in the cluster. It is for the pod
that has the name now: one that is made anew under it gets no session.`,
		Example: `  sluice cell debug approve 1f2e08c37ab64d51f0936be27d48ac15 --for 15m --state /var/lib/sluice
  sluice cell debug approve 1f2e08c37ab64d51f0936be27d48ac15 --per-command --state /var/lib/sluice
  sluice cell debug approve 1f2e08c37ab64d51f0936be27d48ac15 --pod shop/queue-0 --state /var/lib/sluice`}
	fl := cmd.Flags()
	cli.AddDurationFlag(fl, &p.For, "for", 0, "how long the session may last (default: as long as was asked for)")
	fl.StringVar(&p.User, "user", "", "run commands and shells, and read files and journals, as `USER` of this "+
		"machine (default: the agent's own)")
	fl.BoolVar(&p.PerCommand, "per-command", false, "ask for each command, in sluice cell debug watch")
	fl.BoolVar(&p.Withhold, "withhold", false, "keep the record here: the vendor gets its hash and length")
	fl.BoolVar(&p.KeepChanges, "keep-changes", false, "hold what the session changes, instead of healing it")
	in.add(fl)
	folder := findDebugFolder(a, cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f, err := folder()
		if err != nil {
			return err
		}
		if len(args[0]) != debug.IDLength {
			return cli.Fail(fmt.Errorf("%sthe whole ID of a request is needed: a request that came since you looked "+
				"could begin as the one that you read", cli.CommandPrefix(cmd)), "sluice cell debug list shows IDs")
		}
		e, err := findRequest(cmd, f, args, nil)
		if err != nil {
			return err
		}
		if p.Made, err = moment(cmd); err != nil {
			return err
		}
		if p.For == 0 {
			p.For = e.Request.For
		}
		image := ""
		if p.Pod, image, err = in.find(cmd.Context()); err != nil {
			return fmt.Errorf("%s%w", cli.CommandPrefix(cmd), err)
		}
		if err := f.Approve(e.ID, p, time.Now()); err != nil {
			return fmt.Errorf("%s%w", cli.CommandPrefix(cmd), err)
		}
		help := ""
		if e, err = f.Load(e.ID); err == nil {
			help, err = helpFor(f, &e)
		}
		if err != nil {
			return fmt.Errorf("%s%w", cli.CommandPrefix(cmd), err)
		}
		said := fmt.Sprintf("permitted: %s with the key %s may %s, for %s, once, beginning within %s",
			e.Request.Person, e.Request.Fingerprint(), describeGrant(e.Request.Scope, p.Pod, image),
			words.ExactDuration(p.For), words.ExactDuration(debug.BeginWithin))
		own := cellKey(f)
		return a.PrintResult(map[string]string{"id": e.ID, "said": said, "cellKey": own}, func() {
			a.Stdout.PrintLine("%s", said)
			if own != "" {
				a.Stdout.PrintLine("tell the person: sluice debug connect CELL --cell-key %s", own)
			}
			if help != "" {
				a.Stdout.PrintLine("what is permitted, whatever the release declares later:")
				a.Stdout.PrintText("  ", strings.TrimSuffix(help, "\n"))
			}
			a.Stdout.PrintLine("watch it: sluice cell debug watch %s; end it: sluice cell debug stop %s", e.ID, e.ID)
		})
	}
	return cmd
}

func debugDenyVerb(a *cli.App) *cobra.Command {
	var reason string
	cmd := &cobra.Command{Use: "deny ID", Args: cli.ArgumentCount(1, 1, "ID"),
		Short:   "Refuse a request, also one that was approved and has not begun",
		Example: `  sluice cell debug deny 1f2e --reason "after the quarter's end" --state /var/lib/sluice`}
	cmd.Flags().StringVar(&reason, "reason", "", "reason, visible to the vendor")
	folder := findDebugFolder(a, cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f, err := folder()
		if err != nil {
			return err
		}
		e, err := findRequest(cmd, f, args, nil)
		if err != nil {
			return err
		}
		if err := f.Deny(e.ID, debugfolder.Denial{Reason: words.Clip(reason, 400), At: time.Now()}); err != nil {
			return fmt.Errorf("%s%w", cli.CommandPrefix(cmd), err)
		}
		return a.PrintResult(map[string]string{"id": e.ID, "said": "denied"},
			func() { a.Stdout.PrintLine("denied: request %s of %s", e.ID, e.Request.Person) })
	}
	return cmd
}

func debugStopVerb(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{Use: "stop [ID]", Args: cli.ArgumentCount(0, 1, "ID"),
		Short: "End sessions at once, and let none begin that was permitted",
		Long: `Within a second the session's processes are killed and its connection is closed, whether the control
plane can be reached or not. Without ID, all sessions and all permissions end.`,
		Example: `  sluice cell debug stop --state /var/lib/sluice`}
	folder := findDebugFolder(a, cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f, err := folder()
		if err != nil {
			return err
		}
		stopped, err := stopSessions(cmd, f, args)
		if err != nil {
			return err
		}
		return a.PrintResult(map[string][]string{"stopped": stopped}, func() {
			if len(stopped) == 0 {
				a.Stdout.PrintLine("no session lasts, and none is permitted")
			}
			for _, id := range stopped {
				a.Stdout.PrintLine("stopped: %s", id)
			}
		})
	}
	return cmd
}

func stopSessions(cmd *cobra.Command, f debugfolder.Folder, args []string) ([]string, error) {
	stopped := []string{}
	if len(args) > 0 {
		e, err := findRequest(cmd, f, args, nil)
		if err == nil {
			err = f.Stop(e.ID)
			stopped = append(stopped, e.ID)
		}
		return stopped, err
	}
	all, unread := f.List()
	for _, e := range all {
		if e.Permission == nil || e.Seal != nil || e.Stopped {
			continue
		}
		if err := f.Stop(e.ID); err != nil {
			unread = errors.Join(unread, err)
			continue
		}
		stopped = append(stopped, e.ID)
	}
	if unread != nil {
		return stopped, fmt.Errorf("%s%w", cli.CommandPrefix(cmd), unread)
	}
	return stopped, nil
}
