package releasecmd

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/releases"
	"github.com/sluice-cd/sluice/releases/infrastructure"
)

// MaxPushBytes bounds a pre-receive hook's input: some 100,000 refs.
const MaxPushBytes = 16 << 20

// validatePush reads a pre-receive hook's lines and returns the faults that the push would bring in.
func validatePush(ctx context.Context, a *cli.App, dir string) ([]releases.Fault, error) {
	if gitDir := a.Getenv("GIT_DIR"); gitDir != "" && dir == "." {
		dir = gitDir // git sets it for hooks
	}
	branch := a.Branch
	if branch == "" {
		head, err := repos.RunGit(ctx, a, dir, "symbolic-ref", "--short", "HEAD")
		if err != nil {
			return nil, cli.Fail(err, "name the release branch: --branch NAME")
		}
		branch = head
	}
	var faults []releases.Fault
	in := &io.LimitedReader{R: a.Stdin, N: MaxPushBytes + 1}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		if in.N == 0 { // the rest might name the release branch, so the push is refused
			return nil, cli.Fail(fmt.Errorf("the push changes too many refs: their list is larger than %d bytes",
				MaxPushBytes), "push the release branch by itself, with fewer refs at once")
		}
		oldCommit, newCommit, ref, ok := parseHookLine(lines.Text())
		if !ok {
			return nil, cli.Fail(fmt.Errorf("standard input has %q", lines.Text()),
				`a pre-receive hook reads lines of "old new ref"`)
		}
		if ref != "refs/heads/"+branch {
			continue
		}
		if isZero(newCommit) {
			faults = append(faults, releases.Fault{File: ref, Code: manifest.Forbidden,
				Message: "the push would delete the branch that Sluice follows"})
			continue
		}
		after, err := validateCommit(ctx, a, dir, newCommit)
		if err != nil {
			return nil, err
		}
		var rewrite []releases.Fault
		if !isZero(oldCommit) {
			if rewrite, err = findRewrite(ctx, a, dir, ref, oldCommit, newCommit); err != nil {
				return nil, err
			}
			lost, err := findLostReleases(ctx, a, dir, oldCommit, newCommit)
			if err != nil {
				return nil, err
			}
			updates, err := findLostUpdates(ctx, a, dir, oldCommit, newCommit)
			if err != nil {
				return nil, err
			}
			after = append(append(after, lost...), updates...)
		}
		var before []releases.Fault
		if !isZero(oldCommit) && len(after) > 0 {
			if before, err = validateCommit(ctx, a, dir, oldCommit); err != nil {
				return nil, err
			}
		}
		faults = append(append(faults, rewrite...), edits.NewFaults(before, after)...)
	}
	return faults, lines.Err()
}

// findRewrite returns a fault if the branch would no longer go on from its old tip by first parents (R51): the push
// drops commits, or merges the branch as if it were a topic. Sluice follows such a merge, but other tools and older
// versions do not. A rewrite that a person wants says so by the trailer.
func findRewrite(ctx context.Context, a *cli.App, dir, ref, oldCommit, newCommit string) ([]releases.Fault, error) {
	line, err := repos.RunGit(ctx, a, dir, "rev-list", "--first-parent", "--parents", newCommit, "--not", oldCommit)
	if err != nil {
		return nil, err
	}
	first := strings.Fields(line[strings.LastIndex(line, "\n")+1:]) // the oldest new commit, and its parents
	if newCommit == oldCommit || len(first) > 1 && first[1] == oldCommit {
		return nil, nil
	}
	messages, err := repos.RunGit(ctx, a, dir, "log", "--format=%B", newCommit, "--not", oldCommit)
	if err != nil || slices.Contains(releases.Trailers(messages, releases.AcknowledgeTrailer), oldCommit) {
		return nil, err
	}
	why := fmt.Sprintf("the push would take commits off the branch: fetch it, put yours on top (git rebase), "+
		"and push again; if the branch is to be rewritten, end a commit's message with %s: %s",
		releases.AcknowledgeTrailer, oldCommit)
	if _, err := repos.RunGit(ctx, a, dir, "merge-base", "--is-ancestor", oldCommit, newCommit); err == nil {
		why = "the push merges the branch into commits of yours, so that its own become a side branch: " +
			"put yours on top of it instead (git pull --rebase), and push again"
	}
	return []releases.Fault{{File: ref, Code: manifest.Forbidden, Message: why}}, nil
}

// findLostReleases returns a fault for each release that a push would remove or change, by force or not (R24).
func findLostReleases(ctx context.Context, a *cli.App, dir, oldCommit, newCommit string) ([]releases.Fault, error) {
	before, err := readTrees(ctx, a, dir, oldCommit, releases.Dir)
	if err != nil {
		return nil, err
	}
	after, err := readTrees(ctx, a, dir, newCommit, releases.Dir)
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
			if _, err := repos.RunGit(ctx, a, dir, "cat-file", "-e",
				newCommit+":"+path.Join(folder, "tombstone.yaml")); err == nil {
				continue // pruned
			}
			why = "would be changed: releases are immutable; cut a new version"
		}
		faults = append(faults, releases.Fault{File: folder, Code: manifest.Immutable,
			Message: "release " + version + " " + why})
	}
	return faults, nil
}

// findLostUpdates returns a fault for each infrastructure update that a push would remove or change although a release
// requires it: cells got that release because their customers executed the update as it was (R62).
func findLostUpdates(ctx context.Context, a *cli.App, dir, oldCommit, newCommit string) ([]releases.Fault, error) {
	before, err := readTrees(ctx, a, dir, oldCommit, infrastructure.Dir)
	if err != nil {
		return nil, err
	}
	after, err := readTrees(ctx, a, dir, newCommit, infrastructure.Dir)
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(before, func(number, tree string) bool { return after[number] == tree })
	if len(before) == 0 {
		return nil, nil
	}
	d, err := loadCommit(ctx, a, dir, oldCommit)
	if err != nil {
		return nil, err
	}
	var faults []releases.Fault
	for _, version := range slices.Sorted(maps.Keys(d.Releases)) {
		number := strconv.Itoa(d.Releases[version].Release.Requires.Infrastructure)
		if _, changed := before[number]; !changed {
			continue
		}
		delete(before, number) // one fault is enough
		faults = append(faults, releases.Fault{File: path.Join(infrastructure.Dir, number), Code: manifest.Immutable,
			Message: fmt.Sprintf("release %s requires infrastructure update %s, so it is immutable: add another number",
				version, number)})
	}
	return faults, nil
}

// readTrees returns the tree id of each folder in a folder at a commit.
func readTrees(ctx context.Context, a *cli.App, dir, commit, in string) (map[string]string, error) {
	list, err := repos.RunGit(ctx, a, dir, "ls-tree", "-d", commit, in+"/")
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

func parseHookLine(line string) (oldCommit, newCommit, ref string, ok bool) {
	parts := strings.Split(line, " ")
	if len(parts) != 3 || len(parts[0]) < 40 || len(parts[1]) < 40 {
		return "", "", "", false
	}
	return parts[0], parts[1], parts[2], true
}

func isZero(id string) bool { return strings.Trim(id, "0") == "" }
