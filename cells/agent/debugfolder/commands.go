package debugfolder

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/releases/diagnostics"
)

// declaredFile has the commands that the running release declares, for the owner and for sessions.
const declaredFile = "commands.json"

// SaveDeclared keeps the commands that the running release declares.
func (f Folder) SaveDeclared(l diagnostics.List) error {
	if err := writeJSON(filepath.Join(string(f), declaredFile), l); err != nil {
		return fmt.Errorf("keep the commands that the release declares: %w", err)
	}
	return nil
}

// Declared returns the commands that the running release declares.
func (f Folder) Declared() (diagnostics.List, error) {
	l, err := readJSON[diagnostics.List](filepath.Join(string(f), declaredFile))
	if err != nil {
		return nil, fmt.Errorf("read the commands that the release declares: %w", err)
	}
	if l == nil {
		return nil, nil
	}
	return *l, nil
}

// keepCommands keeps what the release declares now with a request, and returns its hash.
func (f Folder) keepCommands(id string) (hash string, err error) {
	l, err := f.Declared()
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(l)
	if err == nil {
		err = disk.ReplaceFileMode(f.path(id, commandsFile), 0o644, text)
	}
	if err != nil {
		return "", fmt.Errorf("keep the commands that are permitted: %w", err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

// Commands returns the declared commands that the owner permitted for a request, and before that, those that the
// running release declares.
func (f Folder) Commands(e *Entry) (diagnostics.List, error) {
	if e.Permission == nil {
		return f.Declared()
	}
	if e.Permission.Commands == "" {
		return nil, nil
	}
	text, err := disk.ReadLimited(f.path(e.ID, commandsFile), maxFile)
	if err != nil {
		return nil, fmt.Errorf("read the commands that the owner permitted: %w", err)
	}
	if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) != e.Permission.Commands {
		return nil, errors.New("the commands are not those that the owner permitted")
	}
	var l diagnostics.List
	if err := json.Unmarshal(text, &l); err != nil {
		return nil, fmt.Errorf("read the commands that the owner permitted: %w", err)
	}
	return l, nil
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
