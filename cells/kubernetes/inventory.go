package kubernetes

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/releases"
)

const (
	inventoryFile = "kubernetes.json"
	maxInventory  = 64 << 20
	keptHooks     = 50
)

// inventory says which objects the cell's releases have, or may have, in the cluster. It is durable before a write that
// it must know of.
type inventory struct {
	Cell string `json:"cell"`
	// Namespace is that of objects that name none.
	Namespace string `json:"namespace,omitempty"`

	Release string              `json:"release"` // the newest that was begun
	Key     string              `json:"key"`     // of its assignment
	Content string              `json:"content"` // hash of its manifests
	Applied bool                `json:"applied"` // all of it was written
	Rules   releases.Kubernetes `json:"rules,omitzero"`
	Entries []*entry            `json:"objects"`         // sorted by id
	Hooks   []string            `json:"hooks,omitempty"` // names of the Jobs that succeeded, newest last

	byID map[id]*entry
}

// entry is one object of the inventory.
type entry struct {
	id
	Version     string      `json:"version"`               // of the API by which it was applied
	UID         string      `json:"uid,omitempty"`         // empty: it may not have been created
	Hash        string      `json:"hash,omitempty"`        // of the manifest that was applied last; empty: unknown
	Fingerprint string      `json:"fingerprint,omitempty"` // of the object then
	Current     bool        `json:"current,omitempty"`     // the release that was begun last has it
	Hook        bool        `json:"hook,omitempty"`        // it is a Job that runs once
	Done        bool        `json:"done,omitempty"`        // it is a Job, and succeeded as Hash has it
	Existed     bool        `json:"existed,omitempty"`     // somebody else made it, before a release had it
	Kept        string      `json:"kept,omitempty"`        // why it stays though no release has it
	Rescued     bool        `json:"rescued,omitempty"`     // Kept is by a rollback, and outlives other releases
	Deleting    *time.Time  `json:"deleting,omitempty"`    // its deletion was asked for then
	Held        string      `json:"held,omitempty"`        // what its deletion waits for
	Heals       []time.Time `json:"heals,omitempty"`       // the last ones, oldest first
	Resisted    bool        `json:"resisted,omitempty"`    // somebody kept changing it, so it is left alone
}

// damagedInventory says that the file has no usable content.
type damagedInventory struct{ cause error }

func (e *damagedInventory) Error() string { return e.cause.Error() }

// loadInventory reads the inventory of a state folder, for a cell; a new folder has an empty one.
func loadInventory(file, cell string) (*inventory, error) {
	inv, err := readInventory(file)
	if err != nil {
		return nil, err
	}
	if inv.Cell != cell { // it was renamed: the agent's journal has the folder's cell; objects get its label anew
		inv.Cell, inv.Applied = cell, false
	}
	inv.index()
	return inv, nil
}

func readInventory(file string) (*inventory, error) {
	inv := &inventory{}
	text, err := disk.ReadChecksummed(file, maxInventory)
	if err == nil && text != nil {
		err = json.Unmarshal(text, inv)
	}
	if pathError, ok := errors.AsType[*fs.PathError](err); ok {
		return nil, fmt.Errorf("read the inventory: %w", pathError)
	}
	if err != nil {
		return nil, &damagedInventory{fmt.Errorf("the inventory %s is damaged: %w", file, err)}
	}
	return inv, nil
}

func (inv *inventory) index() {
	inv.byID = make(map[id]*entry, len(inv.Entries))
	for _, e := range inv.Entries {
		inv.byID[e.id] = e
	}
}

func (inv *inventory) save(file string) error {
	slices.SortFunc(inv.Entries, func(a, b *entry) int { return compareIDs(a.id, b.id) })
	text, err := json.Marshal(inv)
	if err == nil {
		err = disk.WriteChecksummed(file, text)
	}
	if err != nil {
		return &cells.UnavailableError{Cause: fmt.Errorf("write the inventory: %w", err)}
	}
	return nil
}

// begin records that a release is about to be written: the inventory then has its objects beside those of before.
// existed reports whether an object that is new to the inventory is in the cluster already.
func (inv *inventory) begin(r cells.Rendered, objects []object, existed func(id) bool) {
	inv.Release, inv.Key, inv.Content = r.Assignment.Release, r.Assignment.Key(), hashFiles(r)
	inv.Applied, inv.Rules = false, r.Kubernetes
	for _, e := range inv.Entries {
		e.Current = false
		if !e.Rescued { // another release may say otherwise
			e.Kept = ""
		}
	}
	for _, o := range objects {
		e := inv.byID[o.id]
		if e == nil {
			e = &entry{id: o.id, Existed: existed(o.id)}
			inv.Entries, inv.byID[o.id] = append(inv.Entries, e), e
		}
		if e.Hash != o.hash { // another manifest: whoever resisted may like it
			e.Heals, e.Resisted = nil, false
		}
		e.Version, e.Current, e.Hook = o.version, true, o.hook != hookNone
		e.Kept, e.Rescued = "", false
		if e.Deleting != nil { // what is left of it is going away
			e.UID, e.Hash, e.Fingerprint, e.Done, e.Deleting, e.Held = "", "", "", false, nil, ""
		}
	}
	if r.Back { // now: later it would not be known that they came with what failed
		for e, why := range planRemoval(inv, true).keep {
			e.Kept, e.Rescued = why, true
		}
	}
}

// noteDone notes which Jobs succeeded, by their UIDs, and reports whether that was news.
func (inv *inventory) noteDone(jobs map[id]string) (news bool) {
	for of, uid := range jobs {
		if e := inv.byID[of]; e != nil && e.UID == uid && !e.Done {
			e.Done, news = true, true
		}
	}
	return news
}

// isSpent reports whether an object that is missing is so because it is a Job that did what o asks for: it is not to
// run again.
func (e *entry) isSpent(o object) bool { return e.Done && e.Hash == o.hash }

// isOf reports whether all of r was written: the release, and what it renders to with the owner's values of now.
func (inv *inventory) isOf(r cells.Rendered) bool {
	return inv.Applied && inv.Key == r.Assignment.Key() && inv.Content == hashFiles(r)
}

// remove forgets entries.
func (inv *inventory) remove(gone map[id]bool) {
	inv.Entries = slices.DeleteFunc(inv.Entries, func(e *entry) bool { return gone[e.id] })
	inv.index()
}

// hasLeftovers reports whether there may be something to remove.
func (inv *inventory) hasLeftovers() bool {
	return slices.ContainsFunc(inv.Entries, func(e *entry) bool { return !e.Current && e.Kept == "" })
}

func (inv *inventory) addHook(name string) {
	if !slices.Contains(inv.Hooks, name) {
		inv.Hooks = append(inv.Hooks, name)
		inv.Hooks = inv.Hooks[max(0, len(inv.Hooks)-keptHooks):]
	}
}

// guardCollapse returns an error if a release would remove most of what is there: more likely its rendering is broken.
// A rollback is let through.
func guardCollapse(inv *inventory, objects []object, r cells.Rendered) error {
	if r.Back || r.Kubernetes.RemoveMost || inv.Key == r.Assignment.Key() {
		return nil
	}
	has := make(map[id]bool, len(objects))
	for _, o := range objects {
		has[o.id] = true
	}
	var before int
	var removed []id
	for _, e := range inv.Entries {
		if !e.Current || e.Hook {
			continue
		}
		before++
		if !has[e.id] {
			removed = append(removed, e.id)
		}
	}
	if len(removed) <= removesFew || 2*len(removed) <= before {
		return nil
	}
	return releaseFault("the release would remove %d of %d objects, %s: nothing was changed; if it means to, "+
		"release.yaml says kubernetes: {removeMost: true}", len(removed), before, some(removed, id.String))
}

// removesFew is how many objects any release may remove.
const removesFew = 5

// removal says what becomes of the objects that no release has any more.
type removal struct {
	remove []*entry          // to be removed, in this order
	keep   map[*entry]string // why they stay
}

// planRemoval decides what is removed once inv's release is proven. back says that it was reached by a rollback.
func planRemoval(inv *inventory, back bool) removal {
	plan := removal{keep: map[*entry]string{}}
	var defined []string // groups of the definitions that no release has any more
	for _, e := range inv.Entries {
		if isDefinition(e) && !e.Current {
			_, group, _ := strings.Cut(e.Name, ".")
			defined = append(defined, group)
		}
	}
	for _, e := range inv.Entries {
		if e.Current || e.Kept != "" {
			continue
		}
		switch {
		case e.Existed:
			plan.keep[e] = "it was there before a release had it"
		case isNeverPruned(e) && !slices.Contains(inv.Rules.Prune, e.Kind):
			plan.keep[e] = fmt.Sprintf("release.yaml does not say kubernetes: {prune: [%s]}", e.Kind)
		case back && (isStateful(e) || slices.Contains(defined, e.Group)):
			plan.keep[e] = "it may hold data, and a rollback keeps such objects"
		default:
			plan.remove = append(plan.remove, e)
		}
	}
	slices.SortStableFunc(plan.remove, func(a, b *entry) int { return removalRank(b) - removalRank(a) })
	return plan
}

// removalRank orders what is removed: the greatest first.
func removalRank(e *entry) int {
	return int(stageOf(object{id: e.id}, e.Namespace != ""))
}

func isNeverPruned(e *entry) bool {
	kept := []string{"Namespace", "PersistentVolume", "PersistentVolumeClaim"}
	return e.Group == "" && slices.Contains(kept, e.Kind) || isDefinition(e)
}

func isDefinition(e *entry) bool {
	return e.Group == "apiextensions.k8s.io" && e.Kind == "CustomResourceDefinition"
}

// isStateful reports whether an object may hold data that a rollback must not lose.
func isStateful(e *entry) bool {
	return e.Group == "apps" && e.Kind == "StatefulSet" || isNeverPruned(e)
}

// Heals that an object takes before it is left alone, and for how long.
const (
	mostHeals    = 5
	healsWithin  = 10 * time.Minute
	leftAloneFor = time.Hour
)

// judgeHeal reports whether an object that drifted is to be healed now, and notes it. Somebody who changes it back each
// time would otherwise be fought for ever.
func judgeHeal(e *entry, now time.Time) bool {
	if e.Resisted {
		if last := e.Heals[len(e.Heals)-1]; now.Sub(last) < leftAloneFor && !now.Before(last) {
			return false
		}
		e.Heals, e.Resisted = nil, false
	}
	e.Heals = slices.DeleteFunc(e.Heals, func(at time.Time) bool {
		return now.Sub(at) >= healsWithin || now.Before(at)
	})
	if len(e.Heals) >= mostHeals {
		e.Resisted = true
		return false
	}
	e.Heals = append(e.Heals, now)
	return true
}
