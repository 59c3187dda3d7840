package repository

import (
	"path"
	"strings"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/internal/manifest"
)

// killPrefix begins the names of files by which the engine and `sluice flag kill` kill a flag: kill-KEY.yaml.
const killPrefix = "kill-"

// parsedOverride is an override as parsed. It is never changed, since a cache may hold it.
type parsedOverride struct {
	Override
	effective bool // names a killed flag or a held announcement
	line      int  // the line of that name
	faults    []manifest.Fault
}

// parseOverride reads as much of an override as possible, since a mistyped kill must not be lost. A kill with a
// readable flag is effective, for all cells if its cells can't be read, and so is an unreadable file named
// kill-KEY.yaml (R43).
func parseOverride(file string, data []byte) parsedOverride {
	doc, faults := manifest.Decode[Override](file, data)
	o := parsedOverride{Override: doc.Value, faults: faults}
	o.Name = stem(file)
	if path.Ext(file) != ".yaml" {
		o.faults = append(o.faults, doc.Fault(manifest.WrongName, "", "must end in .yaml"))
	}
	if key, ok := strings.CutPrefix(o.Name, killPrefix); ok && o.Flag == "" && o.Announcement == "" &&
		flags.CheckKey(key) == nil {
		o.Flag = key
		o.Reason = strings.TrimSpace(o.Reason + " " + file + " can't be read: fix or remove it")
		o.faults = append(o.faults,
			doc.Fault(manifest.Missing, "",
				"kills %s, by its name, since its content names no flag: fix or remove it", key))
	}
	switch {
	case o.Flag != "" && o.Kind != Hold:
		o.Kind, o.line = Kill, doc.Line("flag")
	case o.Announcement != "" && o.Kind != Kill:
		o.Kind, o.line = Hold, doc.Line("announcement")
	case len(o.faults) == 0 && o.Kind == Kill:
		o.faults = append(o.faults, doc.Fault(manifest.Missing, "flag",
			"flag is required: a Kill names the flag it kills"))
	case len(o.faults) == 0:
		o.faults = append(o.faults,
			doc.Fault(manifest.Missing, "announcement",
				"announcement is required: a Hold names the announcement it holds"))
	}
	o.effective = o.Kind == Kill && o.Flag != "" || o.Kind == Hold && o.Announcement != ""
	if o.Flag != "" && o.Announcement != "" {
		o.faults = append(o.faults,
			doc.Fault(manifest.Conflict, "announcement",
				"a Kill names a flag, a Hold an announcement: write two files"))
	}
	o.faults = refuseEmpty(doc, append(o.faults, checkSelector(doc, "cells", doc.Value.Cells)...))
	if manifest.Fatal(o.faults) && !cellsReadable(file, data) {
		o.Cells = Selector{}
	}
	o.faults = manifest.Sort(o.faults)
	return o
}

// cellsReadable reports whether the cells of a faulty override are themselves without faults.
func cellsReadable(file string, data []byte) bool {
	doc, faults := manifest.Decode[struct {
		APIVersion   any      `yaml:"apiVersion"`
		Kind         any      `yaml:"kind"`
		Flag         any      `yaml:"flag"`
		Announcement any      `yaml:"announcement"`
		Cells        Selector `yaml:"cells"`
		Reason       any      `yaml:"reason"`
		By           any      `yaml:"by"`
		Until        any      `yaml:"until"`
	}](file, data)
	return !manifest.Fatal(faults) && len(checkSelector(doc, "cells", doc.Value.Cells)) == 0
}
