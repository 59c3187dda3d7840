package ownercmd

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cells/agent/debugfolder"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/internal/cleantext"
	"github.com/sluice-cd/sluice/internal/words"
)

const (
	watchEvery = 100 * time.Millisecond
	watchRead  = 256 << 10 // bytes of a record that are read at once
	maxCast    = 4 << 20   // bytes of a line of a record
)

// readRecord returns what the owner has of a session's record; nil: no session began.
func readRecord(f debugfolder.Folder, e *debugfolder.Entry) (*debugRecord, error) {
	if e.Begun == nil {
		return nil, nil
	}
	r := &debugRecord{File: f.RecordPath(e.ID)}
	if e.Seal == nil {
		return r, nil
	}
	seal, err := e.Seal.Read()
	if err != nil {
		return nil, fmt.Errorf("request %s: %w", e.ID, err)
	}
	r.Hash, r.Length, r.Ended = seal.Hash, seal.Length, seal.Why
	hash, length, err := f.HashRecord(e.ID)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	r.Intact = hash == seal.Hash && length == seal.Length
	return r, nil
}

func debugWatchVerb(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{Use: "watch [ID]", Args: cli.ArgumentCount(0, 1, "ID"),
		Short: "See what a session shows while it lasts, and answer for each command",
		Long: `Prints what the session prints, until it ends. Nothing of the session reaches this terminal as a
command to it: escape sequences are shown and not obeyed. If the permission is for each command, each
is shown, and runs once you answer y.

Without ID, it watches the newest request that is permitted, and waits for its session.`,
		Example: `  sluice cell debug watch --state /var/lib/sluice`}
	folder := findDebugFolder(a, cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f, err := folder()
		if err != nil {
			return err
		}
		e, err := findRequest(cmd, f, args,
			func(e *debugfolder.Entry) bool { return e.Permission != nil && e.Seal == nil })
		if err != nil {
			return err
		}
		w := watcher{app: a, cmd: cmd, folder: f, id: e.ID}
		if e.Permission != nil && e.Permission.PerCommand {
			w.answers = readAnswers(cmd.Context(), a.Stdin)
		}
		return w.run(cmd.Context())
	}
	return cmd
}

// watcher follows one session.
type watcher struct {
	app    *cli.App
	cmd    *cobra.Command
	folder debugfolder.Folder
	id     string

	answers <-chan string // lines that the owner types; nil: none are asked for
	asked   int           // number of the command that the owner was asked about last

	read int64  // bytes of the record that were read
	part []byte // a line of it that is not complete yet
}

// readAnswers returns the lines of the owner's terminal. The channel is closed at its end.
func readAnswers(ctx context.Context, in io.Reader) <-chan string {
	lines := make(chan string)
	go func() { // ends with the terminal, or with the program
		defer close(lines)
		s := bufio.NewScanner(in)
		for s.Scan() {
			select {
			case lines <- strings.TrimSpace(s.Text()):
			case <-ctx.Done():
				return
			}
		}
	}()
	return lines
}

func (w *watcher) run(ctx context.Context) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		e, err := w.folder.Load(w.id)
		if err != nil {
			return fmt.Errorf("%s%w", cli.CommandPrefix(w.cmd), err)
		}
		if err := w.follow(); err != nil {
			return fmt.Errorf("%s%w", cli.CommandPrefix(w.cmd), err)
		}
		if over, err := w.isOver(&e); over || err != nil {
			return err
		}
		if w.answers != nil {
			if err := w.ask(); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case line, open := <-w.answers:
			if !open {
				w.answers = nil
				break
			}
			if err := w.answer(line); err != nil {
				return err
			}
		case <-tick.C:
		}
	}
}

// isOver reports whether there is nothing to watch any more, and says why.
func (w *watcher) isOver(e *debugfolder.Entry) (bool, error) {
	at, err := moment(w.cmd)
	if err != nil {
		return true, err
	}
	switch e.State(at, time.Now()) {
	case debugfolder.Denied:
		w.app.Stdout.PrintLine("the request was denied")
	case debugfolder.Expired:
		w.app.Stdout.PrintLine("no session began in time")
	case debugfolder.Ended:
		if e.Seal == nil {
			w.app.Stdout.PrintLine("the session's time is over; the agent has not sealed its record yet")
			return true, nil
		}
		if err := w.follow(); err != nil {
			return true, err
		}
		r, err := readRecord(w.folder, e)
		if err != nil {
			return true, err
		}
		w.app.Stdout.PrintLine("the session ended: %s", r.Ended)
		w.app.Stdout.PrintLine("record %s, %d bytes: %s", r.Hash, r.Length, r.File)
	case debugfolder.Open:
		w.app.Stdout.PrintLine("the request waits for your answer: sluice cell debug approve %s", e.ID)
	default:
		return false, nil
	}
	return true, nil
}

// follow prints what was added to the record.
func (w *watcher) follow() error {
	file, err := os.Open(w.folder.RecordPath(w.id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	if _, err := file.Seek(w.read, io.SeekStart); err != nil {
		return err
	}
	buffer := make([]byte, watchRead)
	for {
		n, err := file.Read(buffer)
		w.read += int64(n)
		w.part = append(w.part, buffer[:n]...)
		for {
			line, rest, complete := bytes.Cut(w.part, []byte("\n"))
			if !complete {
				break
			}
			w.part = rest
			w.show(line)
		}
		if len(w.part) > maxCast { // no agent writes such a line
			w.part = nil
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// show prints one event of the record. What the terminal would obey is shown instead.
func (w *watcher) show(line []byte) {
	var event []json.RawMessage
	if json.Unmarshal(line, &event) != nil || len(event) != 3 { // its first line is a header
		return
	}
	var kind, data string
	if json.Unmarshal(event[1], &kind) != nil || json.Unmarshal(event[2], &data) != nil {
		return
	}
	switch kind {
	case "o":
		text := cleantext.Text(strings.ReplaceAll(data, "\r\n", "\n"))
		_, _ = io.WriteString(w.app.Stdout.Writer, text)
	case "m":
		w.app.Stdout.PrintLine("[%s]", data)
	}
}

// ask shows the command that waits for the owner, once.
func (w *watcher) ask() error {
	p, err := w.folder.Pending(w.id)
	if err != nil {
		return fmt.Errorf("%s%w", cli.CommandPrefix(w.cmd), err)
	}
	if p == nil || p.Number == w.asked {
		return nil
	}
	w.asked = p.Number
	w.app.Stdout.PrintLine("command %d: %s", p.Number, words.Shell(p.Command...))
	w.app.Stdout.PrintLine("let it run? y runs it, anything else does not")
	return nil
}

// answer keeps the owner's answer to the command that was shown. Another one that waits meanwhile stays unanswered.
func (w *watcher) answer(line string) error {
	if w.asked == 0 {
		return nil
	}
	allow := strings.EqualFold(line, "y") || strings.EqualFold(line, "yes")
	if err := w.folder.Answer(w.id, w.asked, allow); err != nil {
		w.app.Stdout.PrintLine("%s", err)
		return nil
	}
	w.app.Stdout.PrintLine("%s", map[bool]string{true: "it runs", false: "it does not run"}[allow])
	return nil
}
