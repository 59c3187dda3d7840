package debugfolder

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/cells/debug"
	"github.com/sluice-cd/sluice/releases/diagnostics"
)

// What the running release declares, for the owner and for sessions. A request keeps what was permitted under the same
// names.
const (
	commandsFile = "commands.json"
	logsFile     = "logs.json"
	shownFile    = "shown" // the hash of what the owner saw

	maxDeclared = 2 << 20 // bytes of each: MaxLogs names of 253 bytes, twice, and diagnostics.yaml with JSON's escapes
)

// SaveDeclared keeps the commands that the running release declares.
func (f Folder) SaveDeclared(l diagnostics.List) error {
	if err := writeJSON(filepath.Join(string(f), commandsFile), l); err != nil {
		return fmt.Errorf("keep the commands that the release declares: %w", err)
	}
	return nil
}

// SaveLogs keeps which logs the scope logs is for.
func (f Folder) SaveLogs(l diagnostics.Logs) error {
	if err := writeJSON(filepath.Join(string(f), logsFile), l); err != nil {
		return fmt.Errorf("keep which logs may be read: %w", err)
	}
	return nil
}

// declared returns what a file of the folder has now, and its hash.
func (f Folder) declared(file string) (text []byte, hash string, err error) {
	text, err = disk.ReadLimited(filepath.Join(string(f), file), maxDeclared)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = []byte("null"), nil
	}
	sum := sha256.Sum256(text)
	return text, hex.EncodeToString(sum[:]), err
}

// NoteShown notes, before the owner is shown a request, what it would permit: Approve permits nothing else.
func (f Folder) NoteShown(e *Entry) error {
	file := declaredFile(e.Request.Scope)
	if file == "" || e.Permission != nil {
		return nil
	}
	_, hash, err := f.declared(file)
	if err == nil {
		err = disk.ReplaceFileMode(f.path(e.ID, shownFile), 0o644, []byte(hash))
	}
	if err != nil {
		return fmt.Errorf("note what is shown: %w", err)
	}
	return nil
}

// declaredFile returns the file that has what a scope is for; empty: it is for all.
func declaredFile(s debug.Scope) string {
	switch s {
	case debug.Shell:
		return ""
	case debug.Logs:
		return logsFile
	}
	return commandsFile
}

// keep keeps with a request what a file of the folder has now, and returns its hash.
func (f Folder) keep(id, file string) (hash string, err error) {
	text, hash, err := f.declared(file)
	if err == nil {
		shown, unseen := disk.ReadLimited(f.path(id, shownFile), maxFile)
		if unseen == nil && string(shown) != hash {
			return "", errors.New("what it would permit has changed since you looked: sluice cell debug show " + id +
				" shows it")
		}
		err = disk.ReplaceFileMode(f.path(id, file), 0o644, text)
	}
	if err != nil {
		return "", fmt.Errorf("keep what is permitted: %w", err)
	}
	return hash, nil
}

// Commands returns the declared commands that the owner permitted for a request, and before that, those that the
// running release declares.
func (f Folder) Commands(e *Entry) (diagnostics.List, error) {
	hash := ""
	if e.Permission != nil {
		hash = e.Permission.Commands
	}
	return permitted[diagnostics.List](f, e, commandsFile, hash)
}

// Logs returns the logs that the owner permitted for a request to be read, and before that, those that could be.
func (f Folder) Logs(e *Entry) (diagnostics.Logs, error) {
	hash := ""
	if e.Permission != nil {
		hash = e.Permission.Logs
	}
	return permitted[diagnostics.Logs](f, e, logsFile, hash)
}

// permitted returns what was permitted for a request by a hash, and before that, what could be.
func permitted[T any](f Folder, e *Entry, file, hash string) (all T, err error) {
	name := f.path(e.ID, file)
	switch {
	case e.Permission == nil:
		name = filepath.Join(string(f), file)
	case hash == "":
		return all, nil
	}
	text, err := disk.ReadLimited(name, maxDeclared)
	if e.Permission == nil && errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err != nil {
		return all, fmt.Errorf("read what the owner may permit: %w", err)
	}
	if sum := sha256.Sum256(text); hash != "" && hex.EncodeToString(sum[:]) != hash {
		return all, errors.New("the commands and logs are not those that the owner permitted")
	}
	if err := json.Unmarshal(text, &all); err != nil {
		return all, fmt.Errorf("read what the owner may permit: %w", err)
	}
	return all, nil
}

// A session whose permission is for each command asks the owner before it runs one.

const pendingFile = "pending.json"

// Pending is a command that waits for the owner.
type Pending struct {
	Number  int       `json:"number"` // of the command in its session, from 1
	Command []string  `json:"command"`
	Asked   time.Time `json:"asked"`
}

type answer struct {
	Number int  `json:"number"`
	Allow  bool `json:"allow"`
}

// Ask asks the owner for a command. A session asks for one at a time, each with a number of its own.
func (f Folder) Ask(id string, p Pending) error {
	return f.change(id, func(*Entry) error { return writeJSON(f.path(id, pendingFile), p) })
}

// Pending returns the command that waits for the owner; nil: none does.
func (f Folder) Pending(id string) (*Pending, error) {
	if !requestID().MatchString(id) {
		return nil, ErrNotFound
	}
	p, err := readJSON[Pending](f.path(id, pendingFile))
	if err != nil || p == nil {
		return nil, err
	}
	if _, answered, err := f.Answered(id, p.Number); err != nil || answered {
		return nil, err
	}
	return p, nil
}

// Answer keeps the owner's answer to the command of that number. The first answer counts.
func (f Folder) Answer(id string, number int, allow bool) error {
	return f.change(id, func(*Entry) error {
		p, err := f.Pending(id)
		if err != nil {
			return err
		}
		if p == nil || p.Number != number {
			return errors.New("that command does not wait any more")
		}
		return writeJSON(f.answerPath(id, number), answer{number, allow})
	})
}

// Answered returns the owner's answer to the command of that number, once there is one.
func (f Folder) Answered(id string, number int) (allow, answered bool, err error) {
	a, err := readJSON[answer](f.answerPath(id, number))
	if err != nil || a == nil {
		return false, false, err
	}
	return a.Allow && a.Number == number, true, nil
}

// Settle says that no command waits any more.
func (f Folder) Settle(id string) error {
	return f.change(id, func(*Entry) error { return os.RemoveAll(f.path(id, pendingFile)) })
}

func (f Folder) answerPath(id string, number int) string {
	return f.path(id, fmt.Sprintf("answer-%d.json", number))
}
