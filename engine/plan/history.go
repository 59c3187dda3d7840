package plan

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/channels/passkey"
	"github.com/sluice-cd/sluice/channels/trust"
	"github.com/sluice-cd/sluice/engine/plan/audithead"
	"github.com/sluice-cd/sluice/engine/plan/kept"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// History holds what the branch's main line (releases.Change) says, folded commit by commit. It holds facts only; which
// of them count depends on the files at the tip.
type History struct {
	Tip          string
	Releases     map[string]*Origin      // by version, which is the folder's name
	Channels     map[string]*PastChannel // by name
	Acknowledged []Acknowledgement       // what losses people accepted, oldest first
	Authority    Authority               // who counts as the engine in the next commit
	Identities   map[string]PastIdentity // by cell
	Removed      map[string]PastIdentity // by cell: what it had when it was removed, until it gets another identity
	Quarantines  map[string]bool         // quarantine files that are as the engine wrote them, by path
	Withheld     WithheldFiles           // files whose newest changes no owner signed
	Kept         kept.State              // paths that keep an older value (R47)
	CellFiles    map[string][]string     // by cell: commits that changed cell.yaml, oldest first; see findValidCell
	KeyChanges   map[string][]KeyChange  // by cell: oldest first, at most keepKeyChanges
	AuditHeads   []audithead.Head        // that the engine wrote, oldest first, the newest few
	Passkeys     passkey.Log             // people's passkeys, as approvals used them

	Last struct{ Commit, Base string } // the newest commit if the engine wrote it, and the commit it was decided on
}

// Origin says where a release came from.
type Origin struct {
	Commit  string // the first first-parent commit that has the release (R24)
	Tree    string // object id of the release's folder in Commit
	Order   int    // how many releases the branch had with it
	Authors []releases.Person
	Keys    []string // keys whose signatures of the folder's commits hold
	// The first of the folder's commits that nobody signed who was in people then; empty: none (R52)
	Unsigned string
	Edited   string // the first later commit that changed the folder, even if prune made it
}

// PastChannel is one channel's past.
type PastChannel struct {
	Heads     []EffectiveHead     // heads that the engine wrote, oldest first; the first may come from the root commit
	Touched   *Request            // the last change of head.yaml by anyone but the engine, since the engine's last
	Policies  []string            // commits that changed channel.yaml, oldest first, at most keepPolicies
	Approvals map[string]Approval // by file
	// Sequences at which the engine halted the channel, whether the hold was lifted or not
	Halted   []int64
	Accepted []Acceptance // downstreams' acceptances, as decisions recorded them
	// SignedHead is the version of the signed head that the engine wrote last; 0: it wrote none.
	SignedHead int64
}

const (
	keepPolicies = 32
	pipelineFile = "sluice.yaml"
)

// NewHistory returns an empty History.
func NewHistory() *History {
	return (&History{}).MakeMaps()
}

// Advance folds changes, oldest first, into h. open returns the files of a commit. After an error, h is at the last
// change that was folded completely.
func (h *History) Advance(
	changes []releases.Change, open func(commit string) (fs.FS, error), cache *manifest.Cache,
) error {
	for _, c := range changes {
		if c.Parent != h.Tip {
			return fmt.Errorf("fold commit %s: its parent is %q, not %q: %w", c.Commit, c.Parent, h.Tip,
				releases.ErrDiverged)
		}
		if err := h.fold(c, open, cache); err != nil {
			return fmt.Errorf("fold commit %s: %w", c.Commit, err)
		}
		h.Tip = c.Commit
	}
	return nil
}

// fold folds c. What c contains never makes an error of it (R48): open's errors are the only ones.
func (h *History) fold(c releases.Change, open func(string) (fs.FS, error), cache *manifest.Cache) error {
	c, err := h.Kept.Fold(c, open)
	if err != nil {
		return err
	}
	h.foldAcknowledgements(c)
	var written string // the commit that this one was decided on, if the engine wrote it
	trusted := h.Authority.Trust(c.Key)
	renamed := h.foldRenames(c)
	for _, f := range c.Files {
		parts := strings.Split(f.Path, "/")
		switch {
		case renamed[f.Path]:
		case len(parts) == 2 && parts[0] == releases.Dir:
			if err := h.foldRelease(c, f, parts[1], open, cache); err != nil {
				return err
			}
		case isHeadChange(c, parts):
			base, err := h.foldHead(c, f, parts[1], trusted, open, cache)
			if err != nil {
				return err
			}
			written = base
		case len(parts) == 3 && f.Path == trust.HeadFileName(parts[1]):
			if err := h.foldSignedHead(c, parts[1], trusted, open); err != nil {
				return err
			}
		case len(parts) == 4 && parts[0] == channels.Dir && parts[2] == "holds":
			if n, ok := parseHaltFileName(parts[3]); ok && f.Old == "" && trusted {
				past := h.pastChannel(parts[1])
				past.Halted = append(past.Halted, n)
			}
		case len(parts) == 5 && parts[0] == channels.Dir && parts[2] == "approvals":
			if err := h.foldApproval(c, f, parts[1], open, cache); err != nil {
				return err
			}
		case len(parts) == 3 && parts[0] == cells.Dir && parts[2] == cellFile:
			h.foldCellFile(c, f, parts[1], open)
		case len(parts) == 3 && parts[0] == cells.Dir && parts[2] == IdentityFile:
			before := h.Identities[parts[1]]
			if err := h.foldIdentity(c, f, parts[1], trusted, open); err != nil {
				return err
			}
			h.noteKeyChange(c, parts[1], before, h.Identities[parts[1]], open)
		case f.Path == audithead.File:
			if err := h.foldAudit(c, f, trusted, open); err != nil {
				return err
			}
		case parts[0] == channels.QuarantineDir:
			if delete(h.Quarantines, f.Path); trusted && f.New != "" {
				h.Quarantines[f.Path] = true
			}
		}
	}
	if written == "" && trusted && h.isHalt(c) {
		written = lastTrailer(c, releases.BaseTrailer)
	}
	// What is guarded comes last: the rest of the commit is judged by what was in force before it.
	if err := h.foldGuarded(c, trusted && (h.Authority.Enforced() || written != ""), open, cache); err != nil {
		return err
	}
	h.Last.Commit, h.Last.Base = "", ""
	if written != "" {
		h.Last.Commit, h.Last.Base = c.Commit, written
	}
	return nil
}

// foldSignedHead notes which signed head of a channel the engine wrote in c: cells that know it take none before it.
func (h *History) foldSignedHead(c releases.Change, name string, trusted bool, open func(string) (fs.FS, error)) error {
	if !trusted {
		return nil
	}
	files, err := open(c.Commit)
	if err != nil {
		return err
	}
	data, _ := fs.ReadFile(files, trust.HeadFileName(name))
	h.pastChannel(name).SignedHead = trust.HeadVersion(name, data)
	return nil
}

// dropOlderHeads leaves out signed heads that somebody put back. They are as good as missing: the engine signs anew.
func (h *History) dropOlderHeads(heads map[string]*trust.Head) {
	maps.DeleteFunc(heads, func(name string, head *trust.Head) bool {
		past := h.Channels[name]
		return past != nil && head.Version < past.SignedHead
	})
}

// foldAudit notes that the engine wrote the audit's head in c. What others write there does not count (R46).
func (h *History) foldAudit(c releases.Change, f releases.FileChange, trusted bool,
	open func(string) (fs.FS, error)) error {
	if !trusted || f.New == "" {
		return nil
	}
	files, err := open(c.Commit)
	if err != nil {
		return err
	}
	data, _ := fs.ReadFile(files, audithead.File)
	if head, ok := audithead.Parse(data, c.Commit); ok {
		h.AuditHeads = audithead.Append(h.AuditHeads, head)
	}
	return nil
}

// Acknowledgement is a loss that somebody accepted.
type Acknowledgement struct {
	Loss    string // the value of the trailer
	Key     string // that signed the commit on the main line which says so; empty: none
	ByOwner bool   // it was an owner's then, or there were none
}

// foldAcknowledgements folds the losses that people accept in c. Requests made before lapse where a head was lost.
func (h *History) foldAcknowledgements(c releases.Change) {
	if len(c.Accepts) == 0 {
		return
	}
	byOwner := h.Authority.IsOwner(c.Key)
	h.Acknowledged = slices.Clip(h.Acknowledged)
	for _, loss := range c.Accepts {
		h.Acknowledged = append(h.Acknowledged, Acknowledgement{Loss: loss, Key: c.Key, ByOwner: byOwner})
	}
	for _, past := range h.Channels {
		if q := past.Touched; q != nil {
			past.Touched = &Request{By: q.By, Commit: q.Commit, Lapsed: true}
		}
	}
}

func (h *History) pastChannel(name string) *PastChannel {
	past := h.Channels[name]
	if past == nil {
		past = &PastChannel{Approvals: map[string]Approval{}}
		h.Channels[name] = past
	}
	return past
}

func (h *History) foldRelease(
	c releases.Change, f releases.FileChange, version string, open func(string) (fs.FS, error), cache *manifest.Cache,
) error {
	origin := h.Releases[version]
	if origin == nil {
		origin = &Origin{Commit: c.Commit, Tree: f.New, Order: len(h.Releases) + 1}
		h.Releases[version] = origin
	} else if f.New != origin.Tree && origin.Edited == "" {
		origin.Edited = c.Commit
	}
	for _, a := range f.Authors {
		if !slices.Contains(origin.Authors, a) {
			origin.Authors = append(origin.Authors, a)
		}
	}
	for _, signed := range f.Commits {
		if signed.Key != "" && !slices.Contains(origin.Keys, signed.Key) {
			origin.Keys = append(origin.Keys, signed.Key)
		}
		if origin.Unsigned != "" || signed.MergedOnly {
			continue
		}
		// Whom the side of a merge lists is that side's word: main decides.
		person, err := signerIn(signed.Key, c.Parent, h.peopleKeys(open, cache))
		if err != nil {
			return err
		}
		if person == "" {
			origin.Unsigned = signed.Commit
		}
	}
	return nil
}

// isHeadChange reports whether a path of c, split, may move a channel's head. A decision may leave head.yaml as
// somebody else wrote it before; then the change of decision.json stands for both.
func isHeadChange(c releases.Change, parts []string) bool {
	if len(parts) != 3 || parts[0] != channels.Dir {
		return false
	}
	return parts[2] == "head.yaml" ||
		parts[2] == "decision.json" && !c.Touches(path.Join(channels.Dir, parts[1], "head.yaml"))
}

// foldHead folds one change of a head.yaml: an effective head if the engine wrote it, else a request (R1). base is the
// commit that the engine decided on; empty: someone else wrote the change.
func (h *History) foldHead(
	c releases.Change, f releases.FileChange, name string, trusted bool,
	open func(string) (fs.FS, error), cache *manifest.Cache,
) (base string, err error) {
	past := h.pastChannel(name)
	files, err := open(c.Commit)
	if err != nil {
		return "", err
	}
	if head, ok := h.adoptHead(c, name, files); ok {
		past.Heads, past.Touched = append(past.Heads, head), nil
		return "", nil
	}
	d, ok := h.verifyDecision(c, name, files)
	if !ok || !trusted || !h.isJustified(d, open, cache) {
		if path.Base(f.Path) != "head.yaml" {
			return "", nil
		}
		past.Touched = &Request{By: c.Author.Name, Commit: c.Commit, Reason: bodyOf(c.Message)}
		return "", nil
	}
	past.Heads, past.Touched = append(past.Heads, d.effectiveHead(c.Commit)), nil
	past.Accepted = append(past.Accepted, d.Accepted...)
	return d.Base, nil
}

// adoptHead reads a head that the root commit brought. Such a repository left its past behind.
func (h *History) adoptHead(c releases.Change, name string, files fs.FS) (EffectiveHead, bool) {
	if c.Parent != "" {
		return EffectiveHead{}, false
	}
	file := path.Join(channels.Dir, name, "head.yaml")
	data, err := fs.ReadFile(files, file)
	if err != nil {
		return EffectiveHead{}, false
	}
	doc, faults := manifest.Decode[channels.Head](file, data)
	if len(faults) > 0 || doc.Value.Digest == "" {
		return EffectiveHead{}, false
	}
	head := doc.Value
	head.Commit = c.Commit
	head.Sequence = max(head.Sequence, 1)
	return EffectiveHead{Head: head, Kind: Adopted, Written: c.Commit, Moved: c.When, Finished: true}, true
}

// verifyDecision reads the engine's decision in c about channel name. It is false unless everything fits: the trailer,
// the file's hash, the head, the base, the sequence, and that c changes nothing else.
func (h *History) verifyDecision(c releases.Change, name string, files fs.FS) (Decision, bool) {
	want := lastTrailer(c, "Decision")
	if want == "" {
		return Decision{}, false
	}
	data, err := fs.ReadFile(files, path.Join(channels.Dir, name, "decision.json"))
	if err != nil || HashOf(data) != want {
		return Decision{}, false
	}
	d, err := parseDecision(data)
	if err != nil || d.Channel != name || d.Base != lastTrailer(c, releases.BaseTrailer) {
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
		own := strings.HasPrefix(f.Path, path.Join(channels.Dir, name)+"/") &&
			!strings.HasSuffix(f.Path, "/channel.yaml")
		if !own && !strings.HasPrefix(f.Path, channels.QuarantineDir+"/") {
			return Decision{}, false
		}
	}
	return d, true
}

// standsOn reports whether c's parent is base, or a commit of the engine that stands on base: the commits of one plan
// are a chain (R3).
func (h *History) standsOn(c releases.Change, base string) bool {
	return c.Parent == base || c.Parent == h.Last.Commit && base == h.Last.Base
}

// isHalt reports whether the engine wrote c and c moves no head. Such a commit is a link of the plan's chain too.
func (h *History) isHalt(c releases.Change) bool {
	if base := lastTrailer(c, releases.BaseTrailer); base == "" || !h.standsOn(c, base) {
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

func (h *History) foldApproval(
	c releases.Change, f releases.FileChange, channel string, open func(string) (fs.FS, error), cache *manifest.Cache,
) error {
	past := h.pastChannel(channel)
	delete(past.Approvals, f.Path)
	if f.New == "" {
		return nil
	}
	a, err := ApprovalOf(c, f, h.peopleKeys(open, cache))
	if err == nil {
		a, err = h.foldAssertion(a, c, f, channel, open, cache)
	}
	if err != nil {
		return err
	}
	past.Approvals[f.Path] = a
	return nil
}

// foldAssertion completes what change f in commit c says about an approval whose file has a passkey's assertion. Such
// an approval is its passkey's owner's or nobody's: whoever made the commit proves nothing (R22). Passkeys are those in
// force at c's first parent, as with keys. An assertion counts once, where the branch has it first.
func (h *History) foldAssertion(a Approval, c releases.Change, f releases.FileChange, channel string,
	open func(string) (fs.FS, error), cache *manifest.Cache) (Approval, error) {
	files, err := open(c.Commit)
	if err != nil {
		return a, err
	}
	approval := channels.ParseApproval(cache, files, f.Path)
	if approval == nil || approval.Passkey == nil {
		return a, nil
	}
	a.Author, a.Person, a.Key = releases.Person{}, "", ""
	var people map[string]*channels.Member
	if c.Parent != "" {
		pipeline, err := h.pipelineInForce(c.Parent, open, cache)
		if err != nil {
			return a, err
		}
		if pipeline != nil {
			people = pipeline.People
		}
	}
	verified, why := approval.VerifyAssertion(people, channel)
	if why == nil {
		why = h.Passkeys.Note(verified)
	}
	if why != nil {
		a.Refused = why.Error()
		return a, nil
	}
	a.Person = approval.Person
	return a, nil
}

// trailerLine matches a line of a commit's message that programs add, such as Co-authored-by.
var trailerLine = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]*-[A-Za-z0-9-]+: `)
})

// bodyOf returns what a person gave as the reason in a commit's message: the text after the subject, on one line,
// without trailers.
func bodyOf(message string) string {
	_, body, _ := strings.Cut(strings.TrimSpace(message), "\n")
	lines := slices.DeleteFunc(strings.Split(body, "\n"), trailerLine().MatchString)
	return words.OneLine(strings.Join(lines, " "))
}

// lastTrailer returns the value of the last line "key: value" in a commit's message; empty: it has none.
func lastTrailer(c releases.Change, key string) (value string) {
	for _, value = range releases.Trailers(c.Message, key) {
	}
	return value
}

// HashOf returns the SHA-256 of data, with its prefix.
func HashOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// HeadFile returns head.yaml as the engine wrote it last; nil: the engine wrote none.
func (c *Channel) HeadFile() []byte {
	if c.Effective == nil {
		return nil
	}
	return encodeHead(c.Effective.Head)
}

// encodeHead returns head.yaml exactly as the engine writes it.
func encodeHead(h channels.Head) []byte {
	return fmt.Appendf(nil, "release: %s\ncommit: %s\ndigest: %s\nsequence: %d\n", h.Release, h.Commit,
		h.Digest, h.Sequence)
}

func (d Decision) effectiveHead(commit string) EffectiveHead {
	return EffectiveHead{
		Head: d.Head(), Kind: d.Kind, Written: commit, Moved: d.Now, Hotfix: d.Hotfix,
		Replaces: d.Replaces.Release, ReplacedFinished: d.Replaces.Finished, Forward: d.Forward,
	}
}

// Head returns the head.yaml that belongs to d.
func (d Decision) Head() channels.Head {
	return channels.Head{Release: d.Release, Commit: d.Commit, Digest: d.Digest, Sequence: d.Sequence}
}

// MakeMaps makes the maps that gob leaves nil.
func (h *History) MakeMaps() *History {
	if h.Releases == nil {
		h.Releases = map[string]*Origin{}
	}
	if h.Channels == nil {
		h.Channels = map[string]*PastChannel{}
	}
	if h.Identities == nil {
		h.Identities = map[string]PastIdentity{}
	}
	if h.Removed == nil {
		h.Removed = map[string]PastIdentity{}
	}
	if h.Quarantines == nil {
		h.Quarantines = map[string]bool{}
	}
	if h.Withheld == nil {
		h.Withheld = WithheldFiles{}
	}
	if h.KeyChanges == nil {
		h.KeyChanges = map[string][]KeyChange{}
	}
	if h.CellFiles == nil {
		h.CellFiles = map[string][]string{}
	}
	h.Kept.MakeMaps()
	for _, past := range h.Channels {
		if past.Approvals == nil {
			past.Approvals = map[string]Approval{}
		}
	}
	return h
}
