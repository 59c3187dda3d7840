package edits

import (
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/internal/manifest/edit"
	"github.com/sluice-cd/sluice/releases"
)

// AddCell adds a cell without a key to a channel. The cell's agent brings the key.
type AddCell struct {
	Name    string
	Channel string
	Profile string            // empty: the default
	Values  map[string]string // values in YAML, as in the file; of a string parameter, any text
	Labels  map[string]string
}

func (a AddCell) Message() (subject, body string) {
	return "add cell " + a.Name + " to " + a.Channel, ""
}

// Edit writes cell.yaml without fields that have their defaults.
func (a AddCell) Edit(s *Releases, _ Person, _ time.Time) (Edit, error) {
	if !cells.ValidName(a.Name) {
		return Edit{}, Fail(fmt.Errorf("%q can't be a cell's name", a.Name),
			"it takes lower-case letters, digits and dashes")
	}
	if _, err := s.Channel(a.Channel); err != nil {
		return Edit{}, err
	}
	if is := s.Desired.Cells[a.Name]; is != nil {
		if is.Channel == a.Channel && a.Profile == "" && len(a.Values)+len(a.Labels) == 0 {
			return Edit{}, nil
		}
		return Edit{}, Fail(fmt.Errorf("the cell exists already, in %s", is.Channel),
			"edit cells/%s/cell.yaml to change it; for a new token, omit --channel and the other flags", a.Name)
	}
	file := struct {
		APIVersion string            `yaml:"apiVersion"`
		Kind       string            `yaml:"kind"`
		Channel    string            `yaml:"channel"`
		Profile    string            `yaml:"profile,omitempty"`
		Labels     map[string]string `yaml:"labels,omitempty"`
		Values     map[string]any    `yaml:"values,omitempty"`
	}{releases.APIVersion, "Cell", a.Channel, a.Profile, a.Labels, nil}
	var warnings []releases.Fault
	var err error
	if file.Values, warnings, err = s.parseValues(a.Name, a.Channel, a.Values); err != nil {
		return Edit{}, err
	}
	data, err := yaml.Marshal(file)
	return Edit{Files: singleFile(path.Join(cells.Dir, a.Name, "cell.yaml"), data), Warnings: warnings}, err
}

// RemoveCell removes a cell and its key.
type RemoveCell struct{ Name string }

func (r RemoveCell) Message() (subject, body string) { return "remove cell " + r.Name, "" }

// Edit removes all files of the cell, even if cell.yaml has faults.
func (r RemoveCell) Edit(s *Releases, _ Person, _ time.Time) (Edit, error) {
	dir, files := path.Join(cells.Dir, r.Name), map[string][]byte{}
	err := fs.WalkDir(s.Files, dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasPrefix(name, dir+"/") {
			files[name] = nil
		}
		return err
	})
	if err != nil || len(files) == 0 || !cells.ValidName(r.Name) {
		return Edit{}, s.unknownCell(r.Name)
	}
	return Edit{Files: files, Next: "it gets no more assignments, and its reports are refused"}, nil
}

// RetryCell asks a cell to try again what failed there.
type RetryCell struct{ Name, Reason string }

func (r RetryCell) Message() (subject, body string) { return "retry " + r.Name, r.Reason }

// Edit sets when the cell was asked last, and keeps all other text of cell.yaml.
func (r RetryCell) Edit(s *Releases, _ Person, now time.Time) (Edit, error) {
	c := s.Desired.Cells[r.Name]
	if c == nil {
		return Edit{}, s.unknownCell(r.Name)
	}
	file := path.Join(cells.Dir, r.Name, "cell.yaml")
	text, err := fs.ReadFile(s.Files, file)
	if err != nil {
		return Edit{}, err
	}
	if now = now.UTC().Truncate(time.Second); !now.After(c.Retry) { // another request, whatever the clocks say
		now = c.Retry.UTC().Add(time.Second)
	}
	edited, err := edit.Set(text, []string{"retry"}, now)
	if err != nil {
		return Edit{}, Fail(err, "edit %s by hand: retry: %s", file, now.Format(time.RFC3339))
	}
	next := "if the newest release failed there, the cell tries it once more; sluice why " + r.Name
	return Edit{Files: singleFile(file, edited), Next: next}, nil
}

// RenameCell gives a cell another name. Its key, and with it its agent, goes with it.
type RenameCell struct{ Name, To string }

func (r RenameCell) Message() (subject, body string) {
	return "rename cell " + r.Name + " to " + r.To, ""
}

// Edit moves all files of the cell as they are: the engine takes the identity's move only if nothing of it changed.
func (r RenameCell) Edit(s *Releases, _ Person, _ time.Time) (Edit, error) {
	if !cells.ValidName(r.To) {
		return Edit{}, Fail(fmt.Errorf("%q can't be a cell's name", r.To), "it takes lower-case letters, digits and dashes")
	}
	if _, err := fs.Stat(s.Files, path.Join(cells.Dir, r.To)); err == nil || s.Desired.Cells[r.To] != nil {
		return Edit{}, Fail(fmt.Errorf("there is a cell %s already", r.To), "choose another name")
	}
	removed, err := RemoveCell{Name: r.Name}.Edit(s, Person{}, time.Time{})
	if err != nil {
		return Edit{}, err
	}
	files := removed.Files
	for _, name := range slices.Collect(maps.Keys(files)) {
		data, err := fs.ReadFile(s.Files, name)
		if err != nil {
			return Edit{}, fmt.Errorf("read %s: %w", name, err)
		}
		files[path.Join(cells.Dir, r.To, strings.TrimPrefix(name, path.Join(cells.Dir, r.Name)+"/"))] = data
	}
	return Edit{Files: files, Next: "its agent follows by itself, with the key that it has; waves, holds and " +
		"announcements that name " + r.Name + " are to be changed by hand"}, nil
}

// RevokeCell shuts out a cell until the cell gets a new token.
type RevokeCell struct{ Name string }

func (r RevokeCell) Message() (subject, body string) { return "revoke " + r.Name, "" }

// Edit revokes the cell's identity and increments its serial, which voids older registrations.
func (r RevokeCell) Edit(s *Releases, _ Person, _ time.Time) (Edit, error) {
	c := s.Desired.Cells[r.Name]
	switch {
	case c == nil:
		return Edit{}, s.unknownCell(r.Name)
	case c.Identity.Revoked:
		return Edit{}, nil
	case c.Identity.PublicKey == "":
		return Edit{}, Fail(fmt.Errorf("cell %s has no key in the repository", r.Name),
			"name the control plane with --server: it may know of one that is not committed yet")
	}
	id := c.Identity
	id.APIVersion, id.Kind = releases.APIVersion, "Identity"
	id.Serial++
	id.Revoked, id.Rotate = true, false
	data, err := yaml.Marshal(id)
	next := "the control plane shuts it out once it has read this; sluice cell add " + r.Name + " lets it come back"
	return Edit{Files: singleFile(path.Join(cells.Dir, r.Name, "identity.yaml"), data), Next: next}, err
}
