package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/goreleaser/nfpm/v2"
	"github.com/goreleaser/nfpm/v2/deb"
	"github.com/goreleaser/nfpm/v2/files"
)

// writePackages writes a Debian package for each of the Linux binaries. The shells' completions are printed by the
// binary that runs here.
func (r release) writePackages(ctx context.Context, all, linux []binary, licences string) error {
	host, err := findHost(all)
	if err != nil {
		return err
	}
	temp, err := os.MkdirTemp("", "sluice-release-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	for _, shell := range []string{"bash", "zsh", "fish"} {
		script, err := exec.CommandContext(ctx, host.path, "completion", shell).Output()
		if err != nil {
			return fmt.Errorf("print the completions of %s: %w", shell, err)
		}
		if err := os.WriteFile(filepath.Join(temp, shell), script, 0o644); err != nil {
			return err
		}
	}
	for _, b := range linux {
		if err := r.writePackage(b, shared{completions: temp, licences: licences}); err != nil {
			return fmt.Errorf("write the Debian package for %s: %w", b.target.arch, err)
		}
	}
	return nil
}

// shared has what all packages share.
type shared struct {
	completions string // a folder: bash, zsh, fish
	licences    string // a file
}

// packageText is in what the packages of the two programs differ.
type packageText struct {
	description         string
	depends, recommends []string
	instead             string   // the other package, whose place it takes
	services, settings  []string // files
}

func textOf(program string) packageText {
	if program == agentProgram {
		return packageText{
			description: "agent of a cell, for Sluice's release pipeline\n" +
				"The part of sluice that runs in a cell: its agent (sluice agent), and the verbs of the cell's owner.",
			recommends: []string{"ca-certificates"}, instead: wholeProgram,
			services: []string{"sluice-agent.service"}, settings: []string{"agent.env"},
		}
	}
	return packageText{
		description: "release pipeline from a git repository to cells in customers' accounts\n" +
			"The engine and control plane (sluice serve), the agent of a cell (sluice agent), and the command.",
		depends: []string{"git"}, recommends: []string{"ca-certificates", "openssh-client"}, instead: agentProgram,
		services: []string{"sluice-serve.service", "sluice-agent.service"},
		settings: []string{"serve.env", "agent.env"},
	}
}

func (r release) writePackage(b binary, all shared) error {
	packaging := filepath.Join(r.root, "tools", "release", "debian")
	contents, err := r.contents(b, packaging, all)
	if err != nil {
		return err
	}
	about := textOf(b.program)
	info := &nfpm.Info{
		Name: b.program, Arch: b.target.arch, Platform: "linux", Version: debianVersion(b.version), Section: "admin",
		Priority: "optional", Maintainer: "The Sluice authors <" + homepage + ">", Homepage: homepage, MTime: b.time,
		License: "Apache-2.0", DisableGlobbing: true,
		Description: about.description,
		Overridables: nfpm.Overridables{
			Depends: about.depends, Recommends: about.recommends, Contents: contents,
			Conflicts: []string{about.instead}, Replaces: []string{about.instead}, // both have /usr/bin/sluice
			Scripts: nfpm.Scripts{PostInstall: filepath.Join(packaging, "postinst"),
				PreRemove: filepath.Join(packaging, "prerm"), PostRemove: filepath.Join(packaging, "postrm")},
		},
	}
	var archive bytes.Buffer
	if err := deb.Default.Package(info, &archive); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.out, deb.Default.ConventionalFileName(info)), archive.Bytes(), 0o644)
}

// contents returns the package's files, each with a mode and time that do not depend on the checkout.
func (r release) contents(b binary, packaging string, all shared) (files.Contents, error) {
	var contents files.Contents
	add := func(source, destination string, mode os.FileMode) *files.Content {
		c := &files.Content{Source: source, Destination: destination,
			FileInfo: &files.ContentFileInfo{Owner: "root", Group: "root", Mode: mode, MTime: b.time}}
		contents = append(contents, c)
		return c
	}
	add(b.path, "/usr/bin/sluice", 0o755)
	for _, name := range textOf(b.program).services {
		add(filepath.Join(packaging, name), "/usr/lib/systemd/system/"+name, 0o644)
	}
	add(filepath.Join(packaging, b.program+".conf"), "/usr/lib/sysusers.d/"+b.program+".conf", 0o644)
	for _, name := range textOf(b.program).settings { // they may hold secrets
		add(filepath.Join(packaging, name), "/etc/sluice/"+name, 0o600).Type = files.TypeConfigNoReplace
	}
	add(filepath.Join(all.completions, "bash"), "/usr/share/bash-completion/completions/sluice", 0o644)
	add(filepath.Join(all.completions, "zsh"), "/usr/share/zsh/vendor-completions/_sluice", 0o644)
	add(filepath.Join(all.completions, "fish"), "/usr/share/fish/vendor_completions.d/sluice.fish", 0o644)
	const doc = "/usr/share/doc/sluice/" // of both packages: the unit of the agent names a page there
	own := "/usr/share/doc/" + b.program + "/"
	add(filepath.Join(r.root, "LICENSE"), own+"copyright", 0o644)
	add(all.licences, own+"third-party-licences", 0o644)
	add(sbomPath(b), own+b.program+".spdx.json", 0o644)
	for _, pattern := range []string{"docs/*.md", "docs/monitoring/*"} {
		pages, err := filepath.Glob(filepath.Join(r.root, pattern))
		if err != nil {
			return nil, err
		}
		for _, page := range pages {
			name, err := filepath.Rel(filepath.Join(r.root, "docs"), page)
			if err != nil {
				return nil, err
			}
			add(page, doc+filepath.ToSlash(name), 0o644)
		}
	}
	return contents, nil
}

// debianVersion returns a version as Debian orders them: a pre-release before its release.
func debianVersion(v string) string {
	v = strings.TrimPrefix(v, "v")
	core, rest, isPrerelease := strings.Cut(v, "-")
	if !isPrerelease {
		return v
	}
	return core + "~" + strings.ReplaceAll(rest, "-", ".")
}
