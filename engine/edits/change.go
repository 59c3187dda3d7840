package edits

import (
	"cmp"
	"fmt"
	"io/fs"
	"path"
	"reflect"
	"regexp"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/internal/manifest/edit"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// ChangeCell changes fields of a cell's file. Fields that are not set here stay as they are.
type ChangeCell struct {
	Name    string
	Channel string // to move it to
	Profile string
	Pin     string            // the only release that it may be granted
	Paused  string            // why it is granted nothing new
	Values  map[string]string // as in AddCell
	Labels  map[string]string
	Resume  bool // ends the pause
	Unpin   bool
	Reason  string // for the commit
}

func (c ChangeCell) Message() (subject, body string) {
	if c.Channel != "" {
		return fmt.Sprintf("move cell %s to %s", c.Name, c.Channel), c.Reason
	}
	return "edit cell " + c.Name, c.Reason
}

// Edit changes single fields of cell.yaml, and keeps all other text.
func (c ChangeCell) Edit(s *Releases, _ Person, _ time.Time) (Edit, error) {
	cell, err := s.Cell(c.Name)
	if err != nil {
		return Edit{}, err
	}
	if c.Channel != "" {
		if _, err := s.Channel(c.Channel); err != nil {
			return Edit{}, err
		}
	}
	if c.Pin != "" {
		if _, err := s.Release(c.Pin); err != nil {
			return Edit{}, err
		}
	}
	values, warnings, err := s.parseValues(c.Name, cmp.Or(c.Channel, cell.Channel), c.Values)
	if err != nil {
		return Edit{}, err
	}
	file := path.Join(cells.Dir, c.Name, "cell.yaml")
	before, err := fs.ReadFile(s.Files, file)
	if err != nil {
		return Edit{}, err
	}
	text := before
	set := func(value any, at ...string) {
		if err == nil {
			text, err = edit.Set(text, at, value)
		}
	}
	for key, value := range map[string]string{
		"channel": c.Channel, "profile": c.Profile, "pin": c.Pin, "paused": c.Paused,
	} {
		if value != "" {
			set(value, key)
		}
	}
	for _, name := range sortedKeys(values) {
		set(values[name], "values", name)
	}
	for _, name := range sortedKeys(c.Labels) {
		set(c.Labels[name], "labels", name)
	}
	for key, remove := range map[string]bool{"paused": c.Resume, "pin": c.Unpin} {
		if remove && err == nil {
			text, err = removeField(text, key)
		}
	}
	if err != nil {
		return Edit{}, Fail(err, "edit %s by hand", file)
	}
	next := "sluice why " + c.Name + " shows what it gets"
	if string(text) == string(before) {
		return Edit{Next: next}, nil
	}
	if c.Channel != "" && c.Channel != cell.Channel {
		next = fmt.Sprintf("it gets the head of %s in its turn; %s", c.Channel, next)
	}
	return Edit{Files: singleFile(file, text), Next: next, Warnings: warnings}, nil
}

// removeField returns the document without a top-level field that has one line. All other text stays unchanged.
func removeField(text []byte, key string) ([]byte, error) {
	var before, after map[string]any
	if err := yaml.Unmarshal(text, &before); err != nil {
		return nil, err
	}
	if _, there := before[key]; !there {
		return text, nil
	}
	edited := regexp.MustCompile(`(?m)^`+regexp.QuoteMeta(key)+`:.*\n?`).ReplaceAll(text, nil)
	delete(before, key)
	if err := yaml.Unmarshal(edited, &after); err != nil || len(before) > 0 && !reflect.DeepEqual(before, after) {
		return nil, edit.ErrLayout
	}
	return edited, nil
}

// AddChannel adds a channel to the pipeline.
type AddChannel struct {
	Name        string
	Description string
	After       []string
	Soak        time.Duration // 0: no soak gate
	Manual      bool
}

func (a AddChannel) Message() (subject, body string) { return "add channel " + a.Name, a.Description }

// Edit writes a policy without fields that have their defaults.
func (a AddChannel) Edit(s *Releases, _ Person, _ time.Time) (Edit, error) {
	if !ValidName(a.Name) || a.Name != strings.ToLower(a.Name) {
		return Edit{}, errInvalidName(a.Name, "a channel's")
	}
	if s.Desired.Channels[a.Name] != nil {
		return Edit{}, Fail(fmt.Errorf("there is a channel %s already", a.Name), "edit channels/%s/channel.yaml",
			a.Name)
	}
	for _, up := range a.After {
		if _, err := s.Channel(up); err != nil {
			return Edit{}, err
		}
	}
	if a.Soak > 0 && len(a.After) == 0 {
		return Edit{}, Fail(fmt.Errorf("soak is what cells of an upstream channel do"), "name one with --after")
	}
	fields := edit.Fields{{Key: "apiVersion", Value: releases.APIVersion}, {Key: "kind", Value: "Channel"}}
	add := func(key string, value any, there bool) {
		if there {
			fields = append(fields, edit.Field{Key: key, Value: value})
		}
	}
	add("description", a.Description, a.Description != "")
	add("after", a.After, len(a.After) > 0)
	add("promote", channels.PromoteManual, a.Manual)
	add("gates", []any{map[string]any{"soak": map[string]any{"for": words.ExactDuration(a.Soak)}}}, a.Soak > 0)
	data, err := edit.Format(fields)
	next := fmt.Sprintf("sluice cell add NAME --channel %s; docs/formats.md has what channels/%s/channel.yaml may say",
		a.Name, a.Name)
	return Edit{Files: singleFile(path.Join(channels.Dir, a.Name, "channel.yaml"), data), Next: next}, err
}
