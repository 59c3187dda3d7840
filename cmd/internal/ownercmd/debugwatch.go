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
	"strconv"
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
is shown with a number, and runs once you answer y and that number. Rows of the session begin with a
bar, so that nothing in it looks like such a question.

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
	column  int           // of the row of the terminal where the session's output is; 0: at its beginning
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
		w.say("the request was denied")
	case debugfolder.Expired:
		w.say("no session began in time")
	case debugfolder.Ended:
		if e.Seal == nil {
			w.say("the session's time is over; the agent has not sealed its record yet")
			return true, nil
		}
		if err := w.follow(); err != nil {
			return true, err
		}
		r, err := readRecord(w.folder, e)
		if err != nil {
			return true, err
		}
		w.say("the session ended: %s", r.Ended)
		w.say("record %s, %d bytes: %s", r.Hash, r.Length, r.File)
	case debugfolder.Open:
		w.say("the request waits for your answer: sluice cell debug approve %s", e.ID)
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
		w.print(cleantext.Text(data))
	case "m":
		w.print(cleantext.Line("["+data+"]") + "\n")
	}
}

const bar = "| " // before each row of what the session shows

// print prints what the session shows. It folds rows itself: one that the terminal folds would go on without a bar.
func (w *watcher) print(text string) {
	var out strings.Builder
	for _, r := range text {
		width := 1
		switch {
		case r == '\t':
			width = 8 // at most
		case r >= 0x1100: // letters of two columns are among these
			width = 2
		}
		if most := w.app.Stdout.Columns(); r != '\n' && w.column > len(bar) && most > 0 && w.column+width > most {
			out.WriteByte('\n')
			w.column = 0
		}
		if w.column == 0 {
			out.WriteString(bar)
			w.column = len(bar)
		}
		out.WriteRune(r)
		if w.column += width; r == '\n' {
			w.column = 0
		}
	}
	_, _ = io.WriteString(w.app.Stdout.Writer, out.String())
}

// say prints a line of this verb's own.
func (w *watcher) say(format string, args ...any) {
	if w.column > 0 {
		w.column = 0
		_, _ = io.WriteString(w.app.Stdout.Writer, "\n")
	}
	w.app.Stdout.PrintLine(format, args...)
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
	w.say("command %d: %s", p.Number, words.Shell(p.Command...))
	w.say("let it run? y %d runs it, anything else does not", p.Number)
	return nil
}

// answer keeps the owner's answer to the command that was shown. To let it run, the owner names its number: another
// command may have been shown while they typed.
func (w *watcher) answer(line string) error {
	if w.asked == 0 {
		return nil
	}
	word, number, _ := strings.Cut(strings.ToLower(line), " ")
	allow := word == "y" || word == "yes"
	if allow && strings.TrimSpace(number) != strconv.Itoa(w.asked) {
		w.say("not answered: y %d lets command %d run", w.asked, w.asked)
		return nil
	}
	if err := w.folder.Answer(w.id, w.asked, allow); err != nil {
		w.say("%s", err)
		return nil
	}
	w.say("%s", map[bool]string{true: "it runs", false: "it does not run"}[allow])
	return nil
}
