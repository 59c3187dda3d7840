package plan

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/releases"
)

// AcknowledgeTrailer names, in a commit message on the new branch, the commit whose loss a person accepts (R5).
const AcknowledgeTrailer = "Acknowledge-Divergence"

// History is what the branch's first-parent history says, folded commit by commit. It holds only facts; which
// of them count is decided by what stands at the tip.
type History struct {
	Tip          string
	Releases     map[string]*Origin      // by version, the folder's name
	Channels     map[string]*PastChannel // by name
	Acknowledged []string                // commits whose loss was accepted

	Last struct{ Commit, Base string } // the newest commit if the engine wrote it, and what it was decided on
}

// Origin is where a release came from.
type Origin struct {
	Commit  string // the first first-parent commit that has it (R24)
	Tree    string // its folder there
	Authors []releases.Person
	Edited  string // the first commit that changed the folder afterwards; prune's too
}

// PastChannel is one channel's past.
type PastChannel struct {
	Heads     []EffectiveHead     // that the engine wrote, oldest first; first may be the one that the root commit brought
	Touched   *Request            // the last change of head.yaml that was not the engine's, after the last that was
	Policies  []string            // commits that changed channel.yaml, oldest first, at most keepPolicies
	Approvals map[string]Approval // by file
	Halted    []int64             // sequences at which a halt was put, lifted since or not
	Accepted  []Acceptance        // by downstream channels, as decisions recorded them
}

const (
	keepPolicies = 32
	pipelineFile = "sluice.yaml"
)

// NewHistory is the history of nothing.
func NewHistory() *History {
	return &History{Releases: map[string]*Origin{}, Channels: map[string]*PastChannel{}}
}

// Advance folds changes, oldest first, into h. open gives the files of a commit. An error leaves h at the last change that was folded whole.
func (h *History) Advance(changes []releases.Change, open func(commit string) (fs.FS, error), cache *manifest.Cache) error {
	for _, c := range changes {
		if c.Parent != h.Tip {
			return fmt.Errorf("fold commit %s: its parent is %q, not %q: %w", c.Commit, c.Parent, h.Tip, releases.ErrDiverged)
		}
		if err := h.fold(c, open, cache); err != nil {
			return fmt.Errorf("fold commit %s: %w", c.Commit, err)
		}
		h.Tip = c.Commit
	}
	return nil
}

func (h *History) fold(c releases.Change, open func(string) (fs.FS, error), cache *manifest.Cache) error {
	if lost := trailerValue(c.Message, AcknowledgeTrailer); lost != "" {
		h.Acknowledged = append(h.Acknowledged, lost)
	}
	var written string // the base, if this commit turns out to be the engine's
	for _, f := range c.Files {
		parts := strings.Split(f.Path, "/")
		switch {
		case len(parts) == 2 && parts[0] == releases.Dir:
			h.foldRelease(c, f, parts[1])
		case len(parts) == 3 && parts[0] == channels.Dir && parts[2] == "channel.yaml":
			past := h.pastChannel(parts[1])
			past.Policies = append(past.Policies, c.Commit)
			if n := len(past.Policies); n > keepPolicies {
				past.Policies = slices.Clone(past.Policies[n-keepPolicies:])
			}
		case len(parts) == 3 && parts[0] == channels.Dir && parts[2] == "head.yaml":
			base, err := h.foldHead(c, f, parts[1], open)
			if err != nil {
				return err
			}
			written = base
		case len(parts) == 4 && parts[0] == channels.Dir && parts[2] == "holds":
			if n, ok := parseHaltFileName(parts[3]); ok && f.Old == "" {
				past := h.pastChannel(parts[1])
				past.Halted = append(past.Halted, n)
			}
		case len(parts) == 5 && parts[0] == channels.Dir && parts[2] == "approvals":
			if err := h.foldApproval(c, f, parts[1], open, cache); err != nil {
				return err
			}
		}
	}
	if written == "" && h.isHalt(c) {
		written = trailerValue(c.Message, "Decided-On")
	}
	h.Last.Commit, h.Last.Base = "", ""
	if written != "" {
		h.Last.Commit, h.Last.Base = c.Commit, written
	}
	return nil
}

func (h *History) pastChannel(name string) *PastChannel {
	past := h.Channels[name]
	if past == nil {
		past = &PastChannel{Approvals: map[string]Approval{}}
		h.Channels[name] = past
	}
	return past
}

func (h *History) foldRelease(c releases.Change, f releases.FileChange, version string) {
	origin := h.Releases[version]
	if origin == nil {
		origin = &Origin{Commit: c.Commit, Tree: f.New}
		h.Releases[version] = origin
	} else if f.New != origin.Tree && origin.Edited == "" {
		origin.Edited = c.Commit
	}
	for _, a := range f.Authors {
		if !slices.Contains(origin.Authors, a) {
			origin.Authors = append(origin.Authors, a)
		}
	}
}

// foldHead takes one change of a head.yaml: an effective head if the engine wrote it, else a request (R1).
// base is what the engine decided on, empty if it was somebody else.
func (h *History) foldHead(c releases.Change, f releases.FileChange, name string, open func(string) (fs.FS, error)) (base string, err error) {
	past := h.pastChannel(name)
	files, err := open(c.Commit)
	if err != nil {
		return "", err
	}
	if head, ok := h.adoptHead(c, f, files); ok {
		past.Heads, past.Touched = append(past.Heads, head), nil
		return "", nil
	}
	d, ok := h.verifyDecision(c, name, files)
	if !ok {
		past.Touched = &Request{By: c.Author.Name, Commit: c.Commit}
		return "", nil
	}
	past.Heads, past.Touched = append(past.Heads, d.effectiveHead(c.Commit)), nil
	past.Accepted = append(past.Accepted, d.Accepted...)
	return d.Base, nil
}

// adoptHead reads a head that the root commit brought: a repository whose past was left behind.
func (h *History) adoptHead(c releases.Change, f releases.FileChange, files fs.FS) (EffectiveHead, bool) {
	if c.Parent != "" {
		return EffectiveHead{}, false
	}
	data, err := fs.ReadFile(files, f.Path)
	if err != nil {
		return EffectiveHead{}, false
	}
	doc, faults := manifest.Decode[channels.Head](f.Path, data)
	if len(faults) > 0 || doc.Value.Digest == "" {
		return EffectiveHead{}, false
	}
	head := doc.Value
	head.Commit = c.Commit
	head.Sequence = max(head.Sequence, 1)
	return EffectiveHead{Head: head, Kind: Adopted, Written: c.Commit, Moved: c.When, Finished: true}, true
}

// verifyDecision reads the engine's decision in c about channel name. ok is false unless everything about it fits:
// the trailer, the file's hash, the head, the base, and nothing else touched.
func (h *History) verifyDecision(c releases.Change, name string, files fs.FS) (Decision, bool) {
	want := trailerValue(c.Message, "Decision")
	if want == "" {
		return Decision{}, false
	}
	data, err := fs.ReadFile(files, path.Join(channels.Dir, name, "decision.json"))
	if err != nil || HashOf(data) != want {
		return Decision{}, false
	}
	d, err := parseDecision(data)
	if err != nil || d.Channel != name || d.Base != trailerValue(c.Message, "Decided-On") {
		return Decision{}, false
	}
	if !h.standsOn(c, d.Base) {
		return Decision{}, false
	}
	head, err := fs.ReadFile(files, path.Join(channels.Dir, name, "head.yaml"))
	if err != nil || !bytes.Equal(head, encodeHead(d.Head())) {
		return Decision{}, false
	}
	if n := len(h.pastChannel(name).Heads); n > 0 && d.Sequence <= h.pastChannel(name).Heads[n-1].Sequence {
		return Decision{}, false
	}
	for _, f := range c.Files {
		own := strings.HasPrefix(f.Path, path.Join(channels.Dir, name)+"/") && !strings.HasSuffix(f.Path, "/channel.yaml")
		if !own && !strings.HasPrefix(f.Path, channels.QuarantineDir+"/") {
			return Decision{}, false
		}
	}
	return d, true
}

// standsOn tells whether c stands on base, or on the engine's commits that do: one plan's are a chain (R3).
func (h *History) standsOn(c releases.Change, base string) bool {
	return c.Parent == base || c.Parent == h.Last.Commit && base == h.Last.Base
}

// isHalt tells whether c is the engine's, and moves no head: a link of a chain all the same.
func (h *History) isHalt(c releases.Change) bool {
	if base := trailerValue(c.Message, "Decided-On"); base == "" || !h.standsOn(c, base) {
		return false
	}
	for _, f := range c.Files {
		_, isHalt := parseHaltFileName(path.Base(f.Path))
		isHalt = isHalt && strings.HasPrefix(f.Path, channels.Dir+"/") && f.Old == ""
		if !isHalt && !strings.HasPrefix(f.Path, channels.QuarantineDir+"/") {
			return false
		}
	}
	return len(c.Files) > 0
}

func (h *History) foldApproval(c releases.Change, f releases.FileChange, channel string, open func(string) (fs.FS, error), cache *manifest.Cache) error {
	past := h.pastChannel(channel)
	delete(past.Approvals, f.Path)
	if f.New == "" {
		return nil
	}
	a, err := ApprovalOf(c, f, func(parent string) (map[string][]string, error) {
		files, err := open(parent)
		if err != nil {
			return nil, err
		}
		return peopleKeys(files, cache), nil
	})
	if err != nil {
		return err
	}
	past.Approvals[f.Path] = a
	return nil
}

// peopleKeys gives people's keys as sluice.yaml has them.
func peopleKeys(files fs.FS, cache *manifest.Cache) map[string][]string {
	pipeline, _ := manifest.Load[channels.Pipeline](cache, files, pipelineFile, nil)
	if pipeline == nil {
		return nil
	}
	keys := map[string][]string{}
	for name, member := range pipeline.People {
		keys[name] = member.Keys
	}
	return keys
}

// trailerValue gives the value of the last "Key: value" line in a message's last paragraph that has the key.
func trailerValue(message, key string) string {
	value := ""
	for line := range strings.Lines(message) {
		if rest, ok := strings.CutPrefix(line, key+":"); ok {
			value = strings.TrimSpace(rest)
		}
	}
	return value
}

func HashOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// encodeHead is head.yaml exactly as the engine writes it.
func encodeHead(h channels.Head) []byte {
	return fmt.Appendf(nil, "release: %s\ncommit: %s\ndigest: %s\nsequence: %d\n", h.Release, h.Commit, h.Digest, h.Sequence)
}

// effectiveHead is the head that a decision made.
func (d Decision) effectiveHead(commit string) EffectiveHead {
	return EffectiveHead{
		Head: d.Head(), Kind: d.Kind, Written: commit, Moved: d.Now, Hotfix: d.Hotfix,
		Replaces: d.Replaces.Release, ReplacedFinished: d.Replaces.Finished, Forward: d.Forward,
	}
}

// Head is the head.yaml that belongs to d.
func (d Decision) Head() channels.Head {
	return channels.Head{Release: d.Release, Commit: d.Commit, Digest: d.Digest, Sequence: d.Sequence}
}

// Ready makes what gob leaves out.
func (h *History) Ready() *History {
	if h.Releases == nil {
		h.Releases = map[string]*Origin{}
	}
	if h.Channels == nil {
		h.Channels = map[string]*PastChannel{}
	}
	for _, past := range h.Channels {
		if past.Approvals == nil {
			past.Approvals = map[string]Approval{}
		}
	}
	return h
}
