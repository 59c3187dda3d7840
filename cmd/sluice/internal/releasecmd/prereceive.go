package releasecmd

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/cmd/sluice/internal/cli"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/releases"
)

// MaxPush bounds what a pre-receive hook is given, in bytes: some 100,000 refs.
const MaxPush = 16 << 20

// validatePush reads a pre-receive hook's lines and gives the faults that the push would bring.
func validatePush(ctx context.Context, a *cli.App, dir string) ([]releases.Fault, error) {
	if gitDir := a.Getenv("GIT_DIR"); gitDir != "" && dir == "." {
		dir = gitDir // git runs hooks with it, in the repository's folder
	}
	branch := a.Branch
	if branch == "" {
		head, err := a.Git(ctx, dir, "symbolic-ref", "--short", "HEAD")
		if err != nil {
			return nil, cli.Fail(err, "name the release branch: --branch NAME")
		}
		branch = head
	}
	var faults []releases.Fault
	in := &io.LimitedReader{R: a.Stdin, N: MaxPush + 1}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		if in.N == 0 { // what was cut off might be the release branch: nothing is let in half read
			return nil, cli.Fail(fmt.Errorf("the push changes too many refs: their list is larger than %d bytes", MaxPush), "push the release branch by itself, and fewer at once")
		}
		was, is, ref, ok := hookLine(lines.Text())
		if !ok {
			return nil, cli.Fail(fmt.Errorf("standard input has %q", lines.Text()), `a pre-receive hook reads lines of "old new ref"`)
		}
		if ref != "refs/heads/"+branch || isZero(is) {
			continue
		}
		after, err := validateCommit(ctx, a, dir, is)
		if err != nil {
			return nil, err
		}
		if !isZero(was) {
			lost, err := lostReleases(ctx, a, dir, was, is)
			if err != nil {
				return nil, err
			}
			after = append(after, lost...)
		}
		var before []releases.Fault
		if !isZero(was) && len(after) > 0 {
			if before, err = validateCommit(ctx, a, dir, was); err != nil {
				return nil, err
			}
		}
		faults = append(faults, edits.Brought(before, after)...)
	}
	return faults, lines.Err()
}

// lostReleases finds releases that a push would take away or change, by force or not: a version's bytes are for ever (R24).
func lostReleases(ctx context.Context, a *cli.App, dir, was, is string) ([]releases.Fault, error) {
	before, err := releaseTrees(ctx, a, dir, was)
	if err != nil {
		return nil, err
	}
	after, err := releaseTrees(ctx, a, dir, is)
	if err != nil {
		return nil, err
	}
	var faults []releases.Fault
	for _, version := range slices.Sorted(maps.Keys(before)) {
		folder := path.Join(releases.Dir, version)
		why := ""
		switch tree := after[version]; {
		case tree == before[version]:
			continue
		case tree == "":
			why = "would be removed: sluice release prune leaves a tombstone, so that the version is not used again"
		default:
			if _, err := a.Git(ctx, dir, "cat-file", "-e", is+":"+path.Join(folder, "tombstone.yaml")); err == nil {
				continue // pruned
			}
			why = "would be changed: releases are immutable; cut a new version"
		}
		faults = append(faults, releases.Fault{File: folder, Code: manifest.Immutable,
			Message: "release " + version + " " + why})
	}
	return faults, nil
}

// releaseTrees gives the tree id of each release folder at a commit.
func releaseTrees(ctx context.Context, a *cli.App, dir, commit string) (map[string]string, error) {
	list, err := a.Git(ctx, dir, "ls-tree", "-d", commit, releases.Dir+"/")
	if err != nil {
		return nil, err
	}
	trees := map[string]string{}
	for line := range strings.Lines(list) { // "040000 tree ID\treleases/1.0.0"
		if about, name, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok {
			trees[path.Base(name)] = about[strings.LastIndex(about, " ")+1:]
		}
	}
	return trees, nil
}

func hookLine(line string) (was, is, ref string, ok bool) {
	parts := strings.Split(line, " ")
	if len(parts) != 3 || len(parts[0]) < 40 || len(parts[1]) < 40 {
		return "", "", "", false
	}
	return parts[0], parts[1], parts[2], true
}

func isZero(id string) bool { return strings.Trim(id, "0") == "" }
