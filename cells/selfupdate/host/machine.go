package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/cells/selfupdate"
)

// RunningVariable is the variable by which a guard tells the agent that it starts which image that is.
const RunningVariable = "SLUICE_GUARDED_AGENT"

// Installed names the program that the owner installed, in place of an image.
const Installed = "the installed program"

// Machine is where the agent and its guard run, as both see it.
type Machine struct {
	files   files
	running func() string // the image that runs as the agent
}

// OfAgent returns the machine as the agent sees it that runs from an image. dir is the folder of the update in the
// state folder.
func OfAgent(dir, running string) *Machine {
	return &Machine{files{dir}, func() string { return running }}
}

// Images returns the agent's image. The guard has none that a release could name.
func (m *Machine) Images(context.Context) (wanted, running map[string]string, err error) {
	chosen, err := m.files.chosen()
	if err != nil {
		return nil, nil, err
	}
	return map[string]string{selfupdate.Agent: chosen}, map[string]string{selfupdate.Agent: m.running()}, nil
}

// SetImage chooses the image that is to run. The guard starts it.
func (m *Machine) SetImage(_ context.Context, _, image string) error { return m.files.choose(image) }

// Restart does nothing: a guard replaces an agent that is not to run by itself.
func (m *Machine) Restart(context.Context) error { return nil }

// files are those of the update: see the names below.
type files struct{ dir string }

const (
	chosenName    = "chosen.json" // which image is to run; none: the installed program
	installedName = "installed"   // SHA-256 of the installed program when another was started first
	programsName  = "programs"    // programs by the digests of their images, each with the SHA-256 of its own bytes
	sumSuffix     = ".sum"
	maxSmallFile  = 16 << 10 // bytes
)

type choice struct {
	Image string `json:"image"`
}

func (f files) path(name string) string { return filepath.Join(f.dir, name) }

// chosen returns the image that is to run.
func (f files) chosen() (string, error) {
	text, err := disk.ReadLimited(f.path(chosenName), maxSmallFile)
	if errors.Is(err, fs.ErrNotExist) {
		return Installed, nil
	}
	var c choice
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err == nil && c.Image == "" {
		err = errors.New("it names no image")
	}
	if err != nil {
		return "", fmt.Errorf("read which agent is to run, %s: %w", f.path(chosenName), err)
	}
	return c.Image, nil
}

func (f files) choose(image string) error {
	if image == Installed {
		return f.remove(chosenName)
	}
	text, err := json.Marshal(choice{image})
	if err == nil {
		err = disk.MakePrivate(f.dir)
	}
	if err == nil {
		err = disk.ReplaceFile(f.path(chosenName), text)
	}
	if err != nil {
		return fmt.Errorf("choose which agent is to run: %w", err)
	}
	return nil
}

// remove removes a file durably. One that is not there is no error.
func (f files) remove(name string) error {
	err := os.Remove(f.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = disk.SyncDir(f.dir)
	}
	return err
}
