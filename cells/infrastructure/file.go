package infrastructure

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/internal/manifest"
)

// content is what a file says: docs/formats.md.
type content struct {
	Number    *int                       `yaml:"number" json:"number" required:"true" minimum:"0" maximum:"1000000"`
	Status    cells.InfrastructureStatus `yaml:"status" json:"status" enum:"applied,applying,failed,drifted"`
	ChangeSet *cells.ChangeSet           `yaml:"changeSet" json:"changeSet"`
	Drift     []string                   `yaml:"drift" json:"drift"`
}

// file reads a YAML file that somebody keeps for a machine without a cloud.
type file struct{ dir, name string }

// NewFile returns a Reader of a YAML file.
func NewFile(path string) (Reader, error) {
	path, err := filepath.Abs(path)
	return file{filepath.Dir(path), filepath.Base(path)}, err
}

func (f file) Source() cells.InfrastructureSource { return cells.SourceFile }

func (f file) Read(context.Context) (State, error) {
	c, faults := manifest.Load(nil, os.DirFS(f.dir), f.name, check)
	for _, fault := range faults {
		if !fault.Warning {
			return State{}, errors.New(fault.String())
		}
	}
	if c == nil {
		return State{}, errors.New("there is no file " + f.name)
	}
	return State{Number: *c.Number, Status: c.Status, ChangeSet: c.ChangeSet, Drift: c.Drift}, nil
}

// check fills in the status, and bounds what a report holds.
func check(d *manifest.Doc[content]) (faults []manifest.Fault) {
	c := &d.Value
	if len(c.Drift) > cells.MaxDrift {
		faults = append(faults, d.Fault(manifest.TooLarge, "drift", "%d resources: at most %d are read", len(c.Drift),
			cells.MaxDrift))
	}
	long := func(at, text string) {
		if len(text) > cells.MaxResource {
			faults = append(faults, d.Fault(manifest.TooLarge, at, "%s has more than %d bytes", at, cells.MaxResource))
		}
	}
	for _, name := range c.Drift {
		long("drift", name)
	}
	if s := c.ChangeSet; s != nil {
		long("changeSet.name", s.Name)
		long("changeSet.status", s.Status)
		if s.Link != "" && (!strings.HasPrefix(s.Link, "https://") || len(s.Link) > cells.MaxLink) {
			faults = append(faults, d.Fault(manifest.WrongValue, "changeSet.link", "the link must be https:// and at most "+
				"%d bytes", cells.MaxLink))
		}
	}
	switch {
	case c.Status == "" && len(c.Drift) > 0:
		c.Status = cells.InfrastructureDrifted
	case c.Status == "":
		c.Status = cells.InfrastructureApplied
	case c.Status == cells.InfrastructureApplied && len(c.Drift) > 0:
		faults = append(faults, d.Fault(manifest.Conflict, "status", "what drifted is not applied"))
	}
	return faults
}
