package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
)

// writeLicences writes the licences of all modules that the binaries are linked from, as most of them ask for, and
// returns the file's path. A module without a licence ends the release.
func (r release) writeLicences(ctx context.Context, binaries []binary) (string, error) {
	var modules []string
	for _, b := range binaries {
		for _, m := range b.info.Deps {
			modules = append(modules, moduleName(m))
		}
	}
	slices.Sort(modules)
	folders, err := r.findModules(ctx, slices.Compact(modules))
	if err != nil {
		return "", fmt.Errorf("find the modules' licences: %w", err)
	}
	var out bytes.Buffer
	first := binaries[0]
	fmt.Fprintf(&out, "%s %s contains these modules, and Go's standard library.\n", first.program, first.version)
	for _, f := range folders {
		if err := appendLicences(&out, f); err != nil {
			return "", err
		}
	}
	path := filepath.Join(r.out, first.program+"-"+first.version+"-licences.txt")
	return path, os.WriteFile(path, out.Bytes(), 0o644)
}

func moduleName(m *debug.Module) string {
	if m.Replace != nil {
		m = m.Replace
	}
	return m.Path + "@" + m.Version
}

// moduleFolder is where the sources of a module are.
type moduleFolder struct{ Path, Version, Dir string }

// findModules returns the folders of the modules, and of the standard library.
func (r release) findModules(ctx context.Context, modules []string) ([]moduleFolder, error) {
	run := func(args ...string) ([]byte, error) {
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir, cmd.Env = r.root, append(os.Environ(), r.env...)
		return cmd.Output()
	}
	goroot, err := run("env", "GOROOT")
	if err != nil {
		return nil, err
	}
	folders := []moduleFolder{{Path: "Go's standard library", Dir: strings.TrimSpace(string(goroot))}}
	listed, err := run(append([]string{"mod", "download", "-json"}, modules...)...)
	if err != nil {
		return nil, err
	}
	for d := json.NewDecoder(bytes.NewReader(listed)); ; {
		var f moduleFolder
		if err := d.Decode(&f); errors.Is(err, io.EOF) {
			return folders, nil
		} else if err != nil {
			return nil, err
		}
		folders = append(folders, f)
	}
}

var licenceName = regexp.MustCompile(`(?i)^(licen[cs]e|copying|copyright|notice|patents)`)

func appendLicences(out *bytes.Buffer, f moduleFolder) error {
	entries, err := os.ReadDir(f.Dir)
	if err != nil {
		return err
	}
	found := false
	for _, e := range entries {
		if !e.Type().IsRegular() || !licenceName.MatchString(e.Name()) || strings.HasSuffix(e.Name(), ".go") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(f.Dir, e.Name()))
		if err != nil {
			return err
		}
		found = true
		name := strings.TrimSpace(f.Path + " " + f.Version)
		fmt.Fprintf(out, "\n%s\n%s, %s\n\n%s\n", strings.Repeat("-", 80), name, e.Name(), bytes.TrimSpace(text))
	}
	if !found {
		return fmt.Errorf("%s %s has no licence in %s", f.Path, f.Version, f.Dir)
	}
	return nil
}
