package edits

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/manifest/edit"
)

// Flag holds what to set of a flag. Empty fields stay as they are or, in a new flag, get their defaults.
type Flag struct {
	State     string      // ENABLED or DISABLED
	Variants  edit.Fields // to add or change
	Default   string
	Targeting map[string]any // empty but not nil: no rule
	Metadata  edit.Fields    // to add or change
	Feature   string         // metadata.feature
	Off       string         // metadata.off
}

// field is a field of a flag, by its path in the flag.
type field struct {
	path  []string
	value any
}

// fields returns the fields to set, in the order in which flags are written.
func (f Flag) fields() (all []field) {
	add := func(there bool, value any, path ...string) {
		if there {
			all = append(all, field{path, value})
		}
	}
	add(f.State != "", f.State, "state")
	for _, v := range f.Variants {
		add(true, v.Value, "variants", v.Key)
	}
	add(f.Default != "", f.Default, "defaultVariant")
	add(f.Targeting != nil, f.Targeting, "targeting")
	for _, m := range f.Metadata {
		add(true, m.Value, "metadata", m.Key)
	}
	add(f.Feature != "", f.Feature, "metadata", "feature")
	add(f.Off != "", f.Off, "metadata", "off")
	return all
}

// Empty reports whether there is nothing to set.
func (f Flag) Empty() bool { return len(f.fields()) == 0 }

func (f Flag) describe() string {
	var all []string
	for _, f := range f.fields() {
		name := strings.Join(f.path, ".")
		if name != "targeting" {
			name += fmt.Sprintf(" %v", f.value)
		}
		all = append(all, name)
	}
	return strings.Join(all, ", ")
}

// definition returns the fields of a new flag.
func (f Flag) definition() (all edit.Fields) {
	f.State = cmp.Or(f.State, "ENABLED")
	if len(f.Variants) == 0 {
		f.Variants = edit.Fields{{Key: "on", Value: true}, {Key: "off", Value: false}}
		if f.Feature == "" {
			f.Default = cmp.Or(f.Default, "off")
		} else {
			f.Default, f.Off = cmp.Or(f.Default, "on"), cmp.Or(f.Off, "off")
		}
	}
	for _, f := range f.fields() {
		last := len(all) - 1
		switch {
		case len(f.path) == 1:
			all = append(all, edit.Field{Key: f.path[0], Value: f.value})
		case last >= 0 && all[last].Key == f.path[0]:
			all[last].Value = append(all[last].Value.(edit.Fields), edit.Field{Key: f.path[1], Value: f.value})
		default:
			all = append(all, edit.Field{Key: f.path[0], Value: edit.Fields{{Key: f.path[1], Value: f.value}}})
		}
	}
	return all
}

// SetFlag changes an existing flag.
type SetFlag struct {
	Key    string
	Flag   Flag
	Reason string
}

func (f SetFlag) Message() (subject, body string) {
	return fmt.Sprintf("set flag %s: %s", f.Key, f.Flag.describe()), f.Reason
}

// Edit sets the fields, and keeps all other text.
func (f SetFlag) Edit(s *Flags, _ Person, _ time.Time) (Edit, error) {
	d, err := s.Definition(f.Key)
	if err != nil {
		return Edit{}, err
	}
	before, err := fs.ReadFile(s.Files, d.File)
	if err != nil {
		return Edit{}, err
	}
	after := before
	for _, x := range f.Flag.fields() {
		if after, err = edit.Set(after, append([]string{"flags", f.Key}, x.path...), x.value); err != nil {
			return Edit{}, wrapEditError(d.File, err)
		}
	}
	if bytes.Equal(after, before) {
		return Edit{}, nil
	}
	next := s.nextAfterFlag(f.Key, cmp.Or(f.Flag.Feature, d.Feature()))
	return Edit{Files: singleFile(d.File, after), Next: next}, nil
}

func wrapEditError(file string, err error) error {
	if errors.Is(err, edit.ErrLayout) {
		return Fail(fmt.Errorf("%s: %w", file, err), "edit %s in a clone, and push", file)
	}
	return fmt.Errorf("%s: %w", file, err)
}

// NewFlag creates a flag: with variants on and off, unless Flag has others; gated, if Flag has a feature.
type NewFlag struct {
	Key    string
	File   string // flags/NAME.yaml or .json, new or not; empty: the feature's file, or flags/flags.yaml
	Flag   Flag
	Reason string
}

func (n NewFlag) Message() (subject, body string) { return "make flag " + n.Key, n.Reason }

// flagdSchema is where editors find the schema of flag files.
const flagdSchema = "https://flagd.dev/schema/v0/flags.json"

func (n NewFlag) Edit(s *Flags, _ Person, _ time.Time) (Edit, error) {
	if d := s.Tree.Flags[n.Key]; d != nil {
		return Edit{}, Fail(fmt.Errorf("there is a flag %s already, in %s:%d", n.Key, d.File, d.Line),
			"omit --new to change it")
	}
	file := cmp.Or(n.File, path.Join(repository.DefinitionsDir, cmp.Or(n.Flag.Feature, "flags")+".yaml"))
	if path.Dir(path.Clean(file)) != repository.DefinitionsDir ||
		!slices.Contains([]string{".yaml", ".json"}, path.Ext(file)) {
		return Edit{}, Fail(fmt.Errorf("--file %s is neither %s/*.yaml nor %s/*.json", file, repository.DefinitionsDir,
			repository.DefinitionsDir), "omit --file, or name one there")
	}
	before, err := fs.ReadFile(s.Files, file)
	switch {
	case errors.Is(err, fs.ErrNotExist) && path.Ext(file) == ".json":
		before = []byte("{\n  \"$schema\": \"" + flagdSchema + "\",\n  \"flags\": {}\n}\n")
	case errors.Is(err, fs.ErrNotExist):
		before = []byte("$schema: " + flagdSchema + "\n")
	case err != nil:
		return Edit{}, err
	}
	after, err := edit.Set(before, []string{"flags", n.Key}, n.Flag.definition())
	if err != nil {
		return Edit{}, wrapEditError(file, err)
	}
	return Edit{Files: singleFile(file, after), Next: s.nextAfterFlag(n.Key, n.Flag.Feature)}, nil
}

// nextAfterFlag returns what follows from a change of a flag.
func (s *Flags) nextAfterFlag(key, feature string) string {
	announcing := s.Announcing(feature)
	switch {
	case feature == "":
		return "cells of entry channels get it at the next poll, " +
			"other cells once entry channels have served it for a while; sluice flag show " + key
	case len(announcing) == 0:
		return fmt.Sprintf("it stays off until its feature is announced: sluice announce new ID --title TITLE --feature %s",
			feature)
	}
	return fmt.Sprintf("cells of entry channels get it at the next poll; "+
		"where %s is approved, the approved version stays until: sluice announce approve %s",
		announcing[0], announcing[0])
}

// PromoteFlags moves a channel to a commit's flags that have no announcement, without waiting.
type PromoteFlags struct {
	Channel string
	To      string // a commit; empty: the newest
	Reason  string
}

func (p PromoteFlags) Message() (subject, body string) {
	return "promote flags to " + p.Channel, p.Reason
}

func (p PromoteFlags) Edit(s *Flags, _ Person, _ time.Time) (Edit, error) {
	if !ValidName(p.Channel) {
		return Edit{}, errInvalidName(p.Channel, "a channel's")
	}
	head := cmp.Or(p.To, s.Commit)
	if !s.Contains(head) {
		return Edit{}, Fail(fmt.Errorf("--to %s is not in the branch's history", p.To),
			"git -C CLONE log --first-parent lists its commits: name one in full")
	}
	if s.Tree.Invalid && head == s.Commit {
		return Edit{}, Fail(fmt.Errorf("the tip has faults: %s", Fatal(s.Tree.Faults)[0]),
			"mend them first; sluice flag lint lists all")
	}
	if now := s.Tree.Heads[p.Channel].Commit; now == head || s.sameFlags(now, head) {
		return Edit{}, nil
	}
	data, err := edit.Format(edit.Fields{{Key: "commit", Value: head}})
	return Edit{Files: singleFile(path.Join(repository.HeadsDir, p.Channel+".yaml"), data),
		Next: "its cells get them at their next poll; see sluice flag list"}, err
}

func (s *Flags) sameFlags(one, other string) bool {
	read := func(commit string) (map[string][]byte, error) {
		files, err := s.Open(commit)
		if err != nil {
			return nil, err
		}
		return readFolder(files, repository.DefinitionsDir)
	}
	before, err1 := read(one)
	after, err2 := read(other)
	return err1 == nil && err2 == nil && maps.EqualFunc(before, after, bytes.Equal)
}
