package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/releases"
)

// maxPush bounds what a pre-receive hook is given, in bytes: some 100,000 refs.
const maxPush = 16 << 20

// validatePush reads a pre-receive hook's lines and gives the faults that the push would bring.
func (a *app) validatePush(ctx context.Context, dir string) ([]releases.Fault, error) {
	if gitDir := a.getenv("GIT_DIR"); gitDir != "" && dir == "." {
		dir = gitDir // git runs hooks with it, in the repository's folder
	}
	branch := a.branch
	if branch == "" {
		head, err := a.git(ctx, dir, "symbolic-ref", "--short", "HEAD")
		if err != nil {
			return nil, fail(err, "name the release branch: --branch NAME")
		}
		branch = head
	}
	var faults []releases.Fault
	in := &io.LimitedReader{R: a.stdin, N: maxPush + 1}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		if in.N == 0 { // what was cut off might be the release branch: nothing is let in half read
			return nil, fail(fmt.Errorf("the push changes too many refs: their list is larger than %d bytes", maxPush), "push the release branch by itself, and fewer at once")
		}
		was, is, ref, ok := hookLine(lines.Text())
		if !ok {
			return nil, fail(fmt.Errorf("standard input has %q", lines.Text()), `a pre-receive hook reads lines of "old new ref"`)
		}
		if ref != "refs/heads/"+branch || isZero(is) {
			continue
		}
		after, err := a.validateCommit(ctx, dir, is)
		if err != nil {
			return nil, err
		}
		if !isZero(was) {
			lost, err := a.lostReleases(ctx, dir, was, is)
			if err != nil {
				return nil, err
			}
			after = append(after, lost...)
		}
		var before []releases.Fault
		if !isZero(was) && len(after) > 0 {
			if before, err = a.validateCommit(ctx, dir, was); err != nil {
				return nil, err
			}
		}
		faults = append(faults, brought(before, after)...)
	}
	return faults, lines.Err()
}

// lostReleases finds releases that a push would take away or change, by force or not: a version's bytes are for ever (R24).
func (a *app) lostReleases(ctx context.Context, dir, was, is string) ([]releases.Fault, error) {
	before, err := a.releaseTrees(ctx, dir, was)
	if err != nil {
		return nil, err
	}
	after, err := a.releaseTrees(ctx, dir, is)
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
			if _, err := a.git(ctx, dir, "cat-file", "-e", is+":"+path.Join(folder, "tombstone.yaml")); err == nil {
				continue // pruned
			}
			why = "would be changed: releases are immutable; cut a new version"
		}
		faults = append(faults, releases.Fault{File: folder, Message: "release " + version + " " + why})
	}
	return faults, nil
}

// releaseTrees gives the tree id of each release folder at a commit.
func (a *app) releaseTrees(ctx context.Context, dir, commit string) (map[string]string, error) {
	list, err := a.git(ctx, dir, "ls-tree", "-d", commit, releases.Dir+"/")
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
