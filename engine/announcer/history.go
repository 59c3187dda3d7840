package announcer

import (
	"fmt"
	"io/fs"
	"maps"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/releases"
)

const (
	// The value is COMMIT HEIGHT: the lost commit, and its height, above which the branch is lifted (R39).
	acknowledgeTrailer = releases.AcknowledgeTrailer
	killTrailer        = "Kill" // the ID of the stored kill that the commit contains (R43)
)

const settingsFile = "sluice.yaml"

// maxHeight limits what a trailer can lift the height to, so that a typing error can't use the heights up.
const maxHeight = 1 << 40

// history holds the facts of the flags repository's first-parent history, folded commit by commit.
type history struct {
	commits      []string                 // oldest first
	heights      map[string]int64         // by commit
	approvals    map[string]plan.Approval // by file
	authors      map[string][]string      // by announcement: addresses and keys of its authors
	acknowledged map[string]bool          // lost commits whose loss was accepted
	kills        map[string]string        // by a stored kill's ID: the commit that contains it
	versions     versions                 // of files that can stand

	authority  plan.Authority                // who is an owner in the next commit (R52)
	withheld   plan.WithheldFiles            // what no owner signed, at the tip
	withheldAt map[string]plan.WithheldFiles // the same by commit; none: commits where all is in force
}

func newHistory() *history {
	return &history{
		heights: map[string]int64{}, approvals: map[string]plan.Approval{}, authors: map[string][]string{},
		acknowledged: map[string]bool{}, kills: map[string]string{}, versions: versions{},
		withheld: plan.WithheldFiles{}, withheldAt: map[string]plan.WithheldFiles{},
	}
}

// tip returns the newest folded commit; empty: none.
func (h *history) tip() string {
	if len(h.commits) == 0 {
		return ""
	}
	return h.commits[len(h.commits)-1]
}

// advance folds changes, oldest first. open returns a commit's files. After an error h can't be used any more.
func (h *history) advance(changes []releases.Change, open func(commit string) (fs.FS, error),
	cache *manifest.Cache) error {
	for _, c := range changes {
		if c.Parent != h.tip() {
			return fmt.Errorf("fold commit %s: its parent is %q, not %q: %w", c.Commit, c.Parent, h.tip(),
				engine.ErrDiverged)
		}
		for _, f := range c.Files {
			if err := h.foldFile(c, f, open, cache); err != nil {
				return fmt.Errorf("fold commit %s: %w", c.Commit, err)
			}
		}
		if err := h.foldSettings(c, open, cache); err != nil { // last: the rest is judged by the settings before
			return fmt.Errorf("fold commit %s: %w", c.Commit, err)
		}
		h.foldCommit(c)
		for _, f := range c.Files {
			h.versions.fold(c, f, h.heights[c.Commit])
		}
	}
	return nil
}

// foldSettings folds a change of sluice.yaml: where it lists owners, only they change it (R52).
func (h *history) foldSettings(c releases.Change, open func(commit string) (fs.FS, error),
	cache *manifest.Cache) error {
	for _, f := range c.Files {
		if f.Path != settingsFile {
			continue
		}
		now, err := loadSettings(c.Commit, open, cache)
		if err != nil {
			return err
		}
		byOwner := h.authority.IsOwner(c.Key)
		was, err := loadSettings(c.Parent, h.inForce(open), cache)
		if err != nil {
			return err
		}
		same := now != nil && reflect.DeepEqual(was, now)
		if h.withheld.Fold(c, f, byOwner || same) && byOwner && now != nil {
			h.authority.Owners, h.authority.OwnerKeys = now.Owners, nil
			for _, name := range now.Owners {
				h.authority.OwnerKeys = append(h.authority.OwnerKeys, now.People[name].Keys...)
			}
		}
	}
	if len(h.withheld) > 0 {
		h.withheldAt[c.Commit] = maps.Clone(h.withheld)
	}
	return nil
}

// loadSettings returns a commit's settings; nil: it has none that can be read.
func loadSettings(commit string, open func(commit string) (fs.FS, error), cache *manifest.Cache,
) (*repository.Settings, error) {
	if commit == "" {
		return nil, nil
	}
	files, err := open(commit)
	if err != nil {
		return nil, err
	}
	return repository.LoadSettings(cache, files), nil
}

// inForce returns a function that returns a commit's files, with its settings as they are in force there.
func (h *history) inForce(open func(commit string) (fs.FS, error)) func(commit string) (fs.FS, error) {
	return func(commit string) (fs.FS, error) {
		files, err := open(commit)
		if err != nil {
			return nil, err
		}
		return h.withheldAt[commit].InForce(files, open)
	}
}

// foldCommit folds a commit's height and its trailers.
func (h *history) foldCommit(c releases.Change) {
	height := h.heights[h.tip()] + 1
	if h.authority.IsOwner(c.Key) { // where there are owners, they accept losses
		for _, value := range c.Accepts {
			lost, lifted, _ := strings.Cut(value, " ")
			h.acknowledged[lost] = true
			if n, err := strconv.ParseInt(strings.TrimSpace(lifted), 10, 64); err == nil && n < maxHeight {
				height = max(height, n+1)
			}
		}
	}
	for _, id := range releases.Trailers(c.Message, killTrailer) {
		h.kills[id] = c.Commit
	}
	h.commits = append(h.commits, c.Commit)
	h.heights[c.Commit] = height
}

func (h *history) foldFile(c releases.Change, f releases.FileChange, open func(string) (fs.FS, error),
	cache *manifest.Cache) error {
	switch dir, name := path.Split(f.Path); {
	case strings.HasPrefix(dir, repository.ApprovalsDir+"/"):
		delete(h.approvals, f.Path)
		if f.New == "" {
			return nil
		}
		a, err := plan.ApprovalOf(c, f, func(commit string) (map[string][]string, error) {
			files, err := h.inForce(open)(commit)
			if err != nil {
				return nil, err
			}
			return keysAt(files, cache), nil
		})
		if err != nil {
			return err
		}
		h.approvals[f.Path] = a
	case dir == repository.AnnouncementsDir+"/":
		id := strings.TrimSuffix(name, ".yaml")
		if f.Old == "" {
			delete(h.authors, id) // authors of an earlier announcement with that name
		}
		h.authors[id] = slices.Clone(h.authors[id]) // snapshots share the old slice
		add := func(author string) {
			if author != "" && !slices.Contains(h.authors[id], author) {
				h.authors[id] = append(h.authors[id], author)
			}
		}
		for _, a := range f.Authors {
			add(a.Email)
		}
		for _, signed := range f.Commits {
			add(signed.Key)
		}
	}
	return nil
}

// provenApprovals returns the approvals of tree that the history proves to be by listed people (R22).
func (h *history) provenApprovals(tree *repository.Tree) (all []announce.ProvenApproval) {
	for _, a := range tree.Approvals {
		person := tree.Settings.People[a.Person]
		fact, known := h.approvals[path.Join(repository.ApprovalsDir, a.Announcement, a.Person+".yaml")]
		if person != nil && known && fact.ProvenFor(a.Person, person.Email, tree.Settings.TrustAuthors) {
			all = append(all, announce.ProvenApproval{Approval: a})
		}
	}
	return all
}

// peopleSettings is sluice.yaml read only for its people. Its own type keeps it apart from repository.Load's in the
// cache.
type peopleSettings repository.Settings

// keysAt returns people's keys in a commit's sluice.yaml.
func keysAt(files fs.FS, cache *manifest.Cache) map[string][]string {
	settings, _ := manifest.Load[peopleSettings](cache, files, settingsFile, nil)
	if settings == nil {
		return nil
	}
	keys := map[string][]string{}
	for name, person := range settings.People {
		keys[name] = person.Keys
	}
	return keys
}
