package client

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
)

// SavedSession is what sluice login keeps for one server.
type SavedSession struct {
	Server string    `json:"server"`
	Token  string    `json:"token"`
	Ends   time.Time `json:"ends"`
}

// sessionFile returns where the session at --server is kept: a file for each server, so that two runs of the command
// never write the same one for different servers.
func sessionFile(a *cli.App) (string, error) {
	dir := a.Getenv("XDG_CONFIG_HOME")
	if dir == "" {
		var err error
		if dir, err = os.UserConfigDir(); err != nil {
			return "", cli.Fail(fmt.Errorf("there is no configuration folder: %w", err), "set HOME or XDG_CONFIG_HOME")
		}
	}
	sum := sha256.Sum256([]byte(strings.TrimRight(a.Server, "/")))
	return filepath.Join(dir, "sluice", "sessions", hex.EncodeToString(sum[:8])+".json"), nil
}

// ReadSession returns the session that is kept for --server; without a token: there is none, or it has ended.
func ReadSession(a *cli.App) (s SavedSession, err error) {
	if !strings.HasPrefix(a.Server, "https://") {
		return s, nil
	}
	file, err := sessionFile(a)
	if err != nil {
		return s, nil //nolint:nilerr // where nothing can be kept, nothing is
	}
	data, err := cli.ReadSmallFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	switch {
	case err != nil:
		return s, cli.Fail(fmt.Errorf("the session in %s can't be read: %w", file, err),
			"remove the file, and sign in again")
	case s.Server != strings.TrimRight(a.Server, "/") || !time.Now().Before(s.Ends):
		return SavedSession{}, nil
	}
	return s, nil
}

// KeepSession keeps a session for --server, readable by the user alone. The file is replaced whole.
func KeepSession(a *cli.App, s SavedSession) error {
	file, err := sessionFile(a)
	if err != nil {
		return err
	}
	s.Server = strings.TrimRight(a.Server, "/")
	data, err := json.Marshal(s)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(file), 0o700)
	}
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".session-*") // with mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(append(data, '\n'))
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// ForgetSession removes what is kept for --server.
func ForgetSession(a *cli.App) error {
	file, err := sessionFile(a)
	if err != nil {
		return err
	}
	if err := os.Remove(file); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
