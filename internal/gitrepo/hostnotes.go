package gitrepo

import (
	"fmt"
	"sync"
	"time"
)

// tagsRefusedError means that the host refused the tags of a push, and usually all of it.
type tagsRefusedError struct {
	reason      string
	branchToo   bool // the branch was refused in the same words
	branchMoved bool // the host can't push all or nothing: the branch landed
}

func (e *tagsRefusedError) Error() string { return "tags refused: " + e.reason }

// tagsRetry is how long tags are left out of pushes after the host refused some, and out of fetches after one failed.
const tagsRetry = time.Hour

// hostNotes remembers what a host does not do, and what people should know of that. It is safe for concurrent use.
type hostNotes struct {
	mu         sync.Mutex
	suspected  string    // why tags may have been refused
	refused    string    // why tags are refused: the branch moved without them
	tagsAgain  time.Time // when tags are pushed again
	headBranch string    // the branch that the host's HEAD names, if the Repo works with another one
	oldBranch  string    // the branch that was followed before it was renamed; empty: none
	renamed    time.Time // when that was found
}

// renameNoted is how long people are told that a renamed branch is followed.
const renameNoted = 24 * time.Hour

// mayPushTags reports whether a push should have its tags.
func (n *hostNotes) mayPushTags(now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !now.Before(n.tagsAgain)
}

// suspectTags records that the host may have refused a push because of its tags: the next one goes without.
func (n *hostNotes) suspectTags(reason string, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.suspected, n.tagsAgain = reason, now.Add(tagsRetry)
}

// judgeTags records that a push landed, and whether it had its tags. It returns why the host refuses them, if that is
// news.
func (n *hostNotes) judgeTags(pushed bool) (news string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if pushed {
		n.suspected, n.refused, n.tagsAgain = "", "", time.Time{}
		return ""
	}
	if n.refused != n.suspected {
		news = n.suspected
	}
	n.refused = n.suspected
	return news
}

// acquitTags records that the host refused a push without tags too.
func (n *hostNotes) acquitTags() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.suspected, n.tagsAgain = n.refused, time.Time{}
}

func (n *hostNotes) noteRename(from string, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.oldBranch, n.renamed = from, now
}

func (n *hostNotes) setHeadBranch(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.headBranch = name
}

// HostNotes says in sentences what people should know of the host, though nothing stops for it.
func (r *Repo) HostNotes() (notes []string) {
	branch := r.branch()
	r.notes.mu.Lock()
	defer r.notes.mu.Unlock()
	if why := r.notes.refused; why != "" {
		notes = append(notes, fmt.Sprintf("the git host refuses the engine's tags (%s): releases move without them; "+
			"let the engine make tags sluice/*, which keep commits that a force-push drops", why))
	}
	if head := r.notes.headBranch; head != "" {
		notes = append(notes, fmt.Sprintf("the repository's default branch is %s now, and this is about %s: "+
			"name one of them by --branch, or delete %s", head, branch, branch))
	}
	if old := r.notes.oldBranch; old != "" && time.Since(r.notes.renamed) < renameNoted {
		notes = append(notes, fmt.Sprintf("the repository's branch %s is gone: %s, its default branch, is followed since %s",
			old, branch, r.notes.renamed.UTC().Format(time.RFC3339)))
	}
	return notes
}
