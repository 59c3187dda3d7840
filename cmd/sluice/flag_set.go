package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/edit"
)

// flagEdit is what flag set was told.
type flagEdit struct {
	isNew     bool
	file      string // of a new flag
	byDefault string
	state     string
	targeting string // a file
	variants  []string
	metadata  []string
	feature   string
	off       string
	reason    string
}

func (a *app) flagSetVerb() *cobra.Command {
	var e flagEdit
	cmd := &cobra.Command{
		Use:   "set KEY",
		Short: "Change a flag, or make one with --new",
		Long: `Edits the flag where it stands, comments and spacing kept, in one commit of yours to the flags repository. A value of --variants and
--metadata is read as JSON where it is that, else as text.

--new makes a flag with the variants on and off, unless --variants says others. With --feature it is gated: while its feature is not
announced, or not contained in the release that a cell runs, it has the variant --off; then its own default, on. Without, it is off
by default and follows its rules alone.

A flag that an approved announcement turns on keeps its approved definition until the announcement is approved again.`,
		Example: `  sluice flag set new-editor --new --feature workspace-classes
  sluice flag set new-editor --default off --reason "not yet"
  sluice flag set theme --new --variants light=#fff,dark=#000 --default light --file flags/looks.yaml
  sluice flag set theme --targeting-file rule.json --metadata expose=client`,
		Args: arguments(1, 1, "KEY"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.flagSet(cmd, args[0], e) },
	}
	f := cmd.Flags()
	f.BoolVar(&e.isNew, "new", false, "make the flag")
	f.StringVar(&e.file, "file", "", "with --new: the `FILE` it goes into (default: flags/FEATURE.yaml, or flags/flags.yaml)")
	f.StringVar(&e.byDefault, "default", "", "the `VARIANT` it has where no rule says another")
	f.StringVar(&e.state, "state", "", "ENABLED or DISABLED")
	f.StringVar(&e.targeting, "targeting-file", "", "JSON or YAML `FILE` with its rule; - is standard input; {} is none")
	f.StringSliceVar(&e.variants, "variants", nil, "NAME=VALUE,… to add or change")
	f.StringSliceVar(&e.metadata, "metadata", nil, "NAME=VALUE,… to add or change")
	f.StringVar(&e.feature, "feature", "", "the `FEATURE` of release.yaml that its code is part of: metadata.feature")
	f.StringVar(&e.off, "off", "", "the `VARIANT` it has while its gate is shut: metadata.off")
	f.StringVar(&e.reason, "reason", "", "why, for the commit")
	return cmd
}

func (a *app) flagSet(cmd *cobra.Command, key string, e flagEdit) error {
	fields, err := a.flagFields(cmd, e)
	if err != nil {
		return err
	}
	if len(fields) == 0 && !e.isNew {
		return usage(cmd, "say what to change: --default, --state, --targeting-file, --variants, --metadata, --feature or --off")
	}
	if e.file != "" && !e.isNew {
		return usage(cmd, "--file says where a flag is made, with --new; this one stays where it is")
	}
	var feature string
	var announcing []string
	c := change{what: fmt.Sprintf("set flag %s: %s", key, describeFields(fields)), body: e.reason}
	if e.isNew {
		c.what = "make flag " + key
	}
	return a.commitFlags(cmd, c, func(s *flagsSnapshot) (map[string][]byte, error) {
		defer func() {
			if d := s.tree.Flags[key]; d != nil && feature == "" {
				feature = d.Feature()
			}
			announcing = s.announcing(feature)
		}()
		feature = e.feature
		if e.isNew {
			return newFlag(s, key, e, fields)
		}
		return editFlag(s, key, fields)
	}, func() string { return nextOfFlag(key, feature, announcing) })
}

// flagField is a field of a flag to be set, by its path below the flag.
type flagField struct {
	path  []string
	value any
}

func (a *app) flagFields(cmd *cobra.Command, e flagEdit) ([]flagField, error) {
	var all []flagField
	add := func(value any, path ...string) { all = append(all, flagField{path, value}) }
	if e.state != "" {
		state := strings.ToUpper(e.state)
		if state != "ENABLED" && state != "DISABLED" {
			return nil, usage(cmd, "--state %q is neither ENABLED nor DISABLED", e.state)
		}
		add(state, "state")
	}
	for flag, list := range map[string][]string{"variants": e.variants, "metadata": e.metadata} {
		for _, text := range list {
			name, value, ok := strings.Cut(text, "=")
			if !ok || name == "" {
				return nil, usage(cmd, "--%s %q is not NAME=VALUE", flag, text)
			}
			add(jsonOr(value), flag, name)
		}
	}
	if e.byDefault != "" {
		add(e.byDefault, "defaultVariant")
	}
	if e.targeting != "" {
		rule, err := a.readRule(e.targeting)
		if err != nil {
			return nil, err
		}
		add(rule, "targeting")
	}
	if e.feature != "" {
		add(e.feature, "metadata", "feature")
	}
	if e.off != "" {
		add(e.off, "metadata", "off")
	}
	slices.SortStableFunc(all, func(x, y flagField) int {
		return slices.Index(flagOrder, x.path[0]) - slices.Index(flagOrder, y.path[0])
	})
	return all, nil
}

// flagOrder is how the fields of a flag are written.
var flagOrder = []string{"state", "variants", "defaultVariant", "targeting", "metadata"}

// jsonOr reads a value as JSON, else as text.
func jsonOr(text string) any {
	var v any
	if json.Unmarshal([]byte(text), &v) != nil || v == nil {
		return text
	}
	return v
}

// maxRule bounds the file of a rule.
const maxRule = 1 << 20

func (a *app) readRule(file string) (any, error) {
	data, err := a.readFile(file, maxRule)
	if err != nil {
		return nil, fail(fmt.Errorf("read --targeting-file: %w", err), "it names a JSON or YAML file with the flag's targeting")
	}
	var rule map[string]any
	if len(data) > maxRule {
		err = fmt.Errorf("it is larger than %d bytes", maxRule)
	} else {
		err = yaml.Unmarshal(data, &rule)
	}
	if err != nil {
		return nil, fail(fmt.Errorf("read --targeting-file %s: %w", file, err), `it holds one rule, such as {"if": [{"==": [{"var": "plan"}, "pro"]}, "on"]}`)
	}
	if rule == nil {
		rule = map[string]any{}
	}
	return rule, nil
}

// editFlag sets fields of a flag where it stands.
func editFlag(s *flagsSnapshot, key string, fields []flagField) (map[string][]byte, error) {
	d, err := s.definition(key)
	if err != nil {
		return nil, err
	}
	before, err := fs.ReadFile(s.files, d.File)
	if err != nil {
		return nil, err
	}
	after := before
	for _, f := range fields {
		if after, err = edit.Set(after, append([]string{"flags", key}, f.path...), f.value); err != nil {
			return nil, editFailure(d.File, err)
		}
	}
	if string(after) == string(before) {
		return nil, errUnchanged
	}
	return map[string][]byte{d.File: after}, nil
}

func editFailure(file string, err error) error {
	if errors.Is(err, edit.ErrLayout) {
		return fail(fmt.Errorf("%s: %w", file, err), "edit %s in a clone, and push", file)
	}
	return fmt.Errorf("%s: %w", file, err)
}

// newFlag adds a flag to a file, which may be new.
func newFlag(s *flagsSnapshot, key string, e flagEdit, fields []flagField) (map[string][]byte, error) {
	if d := s.tree.Flags[key]; d != nil {
		return nil, fail(fmt.Errorf("there is a flag %s already, in %s:%d", key, d.File, d.Line), "leave --new out to change it")
	}
	file := e.file
	if file == "" {
		file = path.Join(flags.DefinitionsDir, "flags.yaml")
		if e.feature != "" {
			file = path.Join(flags.DefinitionsDir, e.feature+".yaml")
		}
	}
	if path.Dir(path.Clean(file)) != flags.DefinitionsDir || !slices.Contains([]string{".yaml", ".json"}, path.Ext(file)) {
		return nil, fail(fmt.Errorf("--file %s is none of %s/*.yaml and %s/*.json", file, flags.DefinitionsDir, flags.DefinitionsDir), "leave --file out, or name one there")
	}
	before, err := fs.ReadFile(s.files, file)
	switch {
	case errors.Is(err, fs.ErrNotExist) && path.Ext(file) == ".json":
		before = []byte("{\n  \"$schema\": \"" + flagdSchema + "\",\n  \"flags\": {}\n}\n")
	case errors.Is(err, fs.ErrNotExist):
		before = []byte("$schema: " + flagdSchema + "\n")
	case err != nil:
		return nil, err
	}
	after, err := edit.Set(before, []string{"flags", key}, definitionOf(e, fields))
	if err != nil {
		return nil, editFailure(file, err)
	}
	return map[string][]byte{file: after}, nil
}

// flagdSchema is where editors find what a file of flags may say.
const flagdSchema = "https://flagd.dev/schema/v0/flags.json"

// definitionOf is a new flag: what is not said has its default.
func definitionOf(e flagEdit, said []flagField) edit.Fields {
	byName := map[string]any{"state": "ENABLED"}
	for _, f := range said {
		if len(f.path) == 1 {
			byName[f.path[0]] = f.value
			continue
		}
		below, _ := byName[f.path[0]].(edit.Fields)
		byName[f.path[0]] = append(below, edit.Field{Key: f.path[1], Value: f.value})
	}
	if len(e.variants) == 0 {
		byName["variants"] = edit.Fields{{Key: "on", Value: true}, {Key: "off", Value: false}}
		if e.byDefault == "" {
			byName["defaultVariant"] = "off"
			if e.feature != "" {
				byName["defaultVariant"] = "on"
			}
		}
		if below, _ := byName["metadata"].(edit.Fields); e.feature != "" && e.off == "" {
			byName["metadata"] = append(below, edit.Field{Key: "off", Value: "off"})
		}
	}
	var all edit.Fields
	for _, name := range flagOrder {
		if value, ok := byName[name]; ok {
			all = append(all, edit.Field{Key: name, Value: value})
		}
	}
	return all
}

func describeFields(fields []flagField) string {
	var all []string
	for _, f := range fields {
		name := strings.Join(f.path, ".")
		if len(f.path) == 1 && f.path[0] == "targeting" {
			all = append(all, name)
			continue
		}
		all = append(all, fmt.Sprintf("%s %v", name, f.value))
	}
	return strings.Join(all, ", ")
}

// nextOfFlag says what follows from a change of a flag.
func nextOfFlag(key, feature string, announcing []string) string {
	switch {
	case feature == "":
		return "cells of entry channels have it with the next look, the others once those served it for a while; sluice flag show " + key
	case len(announcing) == 0:
		return fmt.Sprintf("it stays off until its feature is announced: sluice announce new ID --feature %s", feature)
	}
	return fmt.Sprintf("cells of entry channels have it with the next look; where %s is approved, what was approved stays until: sluice announce approve %s", announcing[0], announcing[0])
}
