package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/sluice-cd/sluice/internal/backoff"
)

// observed is what is kept of a live object.
type observed struct {
	uid           string
	version       string // the resource version, by which older news is told from newer
	fingerprint   string
	assessment    assessment
	healSuspended bool
}

// watchKey identifies a watch: of one kind in one namespace ("": in all).
type watchKey struct {
	gvr       schema.GroupVersionResource
	namespace string
}

// view is what the watches see of the cell's objects, which its label selects. Of each object it keeps a few words, not
// the object: an agent with thousands of objects stays small. mu guards the fields below it.
type view struct {
	cluster *cluster
	cell    string
	changed chan struct{} // of capacity 1
	running sync.WaitGroup

	mu      sync.Mutex
	objects map[id]observed
	expect  map[id]string // fingerprints of what was applied
	rules   map[schema.GroupKind]compiledRule
	watches map[watchKey]*watcher
	done    map[id]string // UIDs of Jobs that succeeded since takeDone was called last: they may be gone soon
}

// watcher watches one kind. view.mu guards synced and fault.
type watcher struct {
	view     *view
	key      watchKey
	resource resource
	stop     context.CancelFunc
	synced   chan struct{} // closed once the first list was read
	isSynced bool
	fault    error // why it can't watch now; nil: it can
}

func newView(c *cluster, cell string) *view {
	return &view{cluster: c, cell: cell, changed: make(chan struct{}, 1), objects: map[id]observed{},
		expect: map[id]string{}, watches: map[watchKey]*watcher{}, done: map[id]string{}}
}

// signal says that somebody should look.
func (v *view) signal() {
	select {
	case v.changed <- struct{}{}:
	default:
	}
}

// setRules sets the release's rules for health. Objects of groups in which a rule changed are read anew: the rules are
// applied to an object when it is read.
func (v *view) setRules(rules map[schema.GroupKind]compiledRule) {
	v.mu.Lock()
	defer v.mu.Unlock()
	changed := map[string]bool{} // groups: which resource a kind has is not known here
	for _, of := range []map[schema.GroupKind]compiledRule{rules, v.rules} {
		for gk := range of {
			if rules[gk].HealthRule != v.rules[gk].HealthRule {
				changed[gk.Group] = true
			}
		}
	}
	v.rules = rules
	for key, w := range v.watches {
		if changed[key.gvr.Group] {
			w.stop()
			delete(v.watches, key)
		}
	}
	maps.DeleteFunc(v.objects, func(of id, _ observed) bool { return changed[of.Group] })
}

// watch starts and stops watches, so that exactly those of want run.
func (v *view) watch(ctx context.Context, want map[watchKey]resource) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for key, w := range v.watches {
		if _, ok := want[key]; !ok {
			w.stop()
			delete(v.watches, key)
		}
	}
	for key, r := range want {
		if v.watches[key] != nil {
			continue
		}
		running, stop := context.WithCancel(context.WithoutCancel(ctx))
		w := &watcher{view: v, key: key, resource: r, stop: stop, synced: make(chan struct{})}
		v.watches[key] = w
		v.running.Go(func() { w.run(running) })
	}
}

// close stops all watches and waits for them.
func (v *view) close() {
	v.watch(context.Background(), nil)
	v.running.Wait()
}

// await waits until each watch has read its first list, and returns the first fault of one that can't, or ctx's cause.
func (v *view) await(ctx context.Context) error {
	limited, cancel := context.WithTimeoutCause(ctx, requestTimeout, errors.New("the API server's lists take too long"))
	defer cancel()
	v.mu.Lock()
	all := maps.Clone(v.watches)
	v.mu.Unlock()
	for _, w := range all {
		for waiting := true; waiting; {
			select {
			case <-w.synced:
				waiting = false
			case <-limited.Done():
				return context.Cause(limited)
			case <-time.After(20 * time.Millisecond): // a fault is told at once
				if err := v.faultOf(w); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (v *view) faultOf(w *watcher) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return w.fault
}

// fault returns why a watch can't see its objects now; nil: all can.
func (v *view) fault() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, w := range v.watches {
		if w.fault != nil {
			return w.fault
		}
	}
	return nil
}

// look returns what is known of an object.
func (v *view) look(of id) (observed, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	o, ok := v.objects[of]
	return o, ok
}

// expectFingerprint says what an object looks like if nothing drifted; "" if nothing is expected of it.
func (v *view) expectFingerprint(of id, fingerprint string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if fingerprint == "" {
		delete(v.expect, of)
		return
	}
	v.expect[of] = fingerprint
}

// note takes what a write returned, so that nothing older is taken for it.
func (v *view) note(live *unstructured.Unstructured, r resource) observed {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.store(live, r)
}

// store keeps an object's new state, unless a newer one is known. v.mu is held.
func (v *view) store(live *unstructured.Unstructured, r resource) observed {
	of := idOf(live)
	before, known := v.objects[of]
	if version := live.GetResourceVersion(); known && (isOlder(version, before.version) || version == before.version) {
		return before // a watch brings what a write returned, too
	}
	var rule *compiledRule
	if found, ok := v.rules[of.groupKind()]; ok {
		rule = &found
	}
	o := observed{
		uid: string(live.GetUID()), version: live.GetResourceVersion(), fingerprint: fingerprint(live),
		assessment:    assess(live, rule, r.hasStatus),
		healSuspended: live.GetAnnotations()[healAnnotation] == "suspended",
	}
	v.objects[of] = o
	if isSucceeded(live) {
		v.done[of] = o.uid
	}
	if want := v.expect[of]; want != "" && want != o.fingerprint ||
		known && before.assessment.ready != o.assessment.ready {
		v.signal()
	}
	return o
}

// takeDone returns the UIDs of the Jobs that succeeded since it was called last.
func (v *view) takeDone() map[id]string {
	v.mu.Lock()
	defer v.mu.Unlock()
	done := v.done
	v.done = map[id]string{}
	return done
}

// forget notes that an object is gone. v.mu is held.
func (v *view) forget(of id) {
	delete(v.objects, of)
	if v.expect[of] != "" {
		v.signal()
	}
}

func idOf(live *unstructured.Unstructured) id {
	gvk := live.GroupVersionKind()
	return id{Group: gvk.Group, Kind: gvk.Kind, Namespace: live.GetNamespace(), Name: live.GetName()}
}

// isOlder reports whether a resource version comes before another: the API server counts all its writes in one number.
func isOlder(a, b string) bool {
	x, errX := strconv.ParseUint(a, 10, 64)
	y, errY := strconv.ParseUint(b, 10, 64)
	return errX == nil && errY == nil && x < y
}

// Bounds of the pauses after a watch failed.
const (
	minWatchPause = 100 * time.Millisecond
	maxWatchPause = 10 * time.Second

	notServedPause = time.Second // until it is asked whether a kind is served by now
)

// run lists and watches until ctx ends, and keeps why it can't.
func (w *watcher) run(ctx context.Context) {
	version, failures := "", 0
	for ctx.Err() == nil {
		var err error
		if version == "" {
			version, err = w.list(ctx)
		}
		if err == nil && version != "" {
			version, err = w.follow(ctx, version)
		} else if err == nil {
			err = pause(ctx, notServedPause)
		}
		w.view.mu.Lock()
		if w.fault = err; err != nil {
			w.fault = fmt.Errorf("watch %s: %w", w.key.gvr.GroupResource(), err)
		}
		w.view.mu.Unlock()
		if err == nil {
			failures = 0
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(backoff.FullJitter(backoff.Exponential(minWatchPause, maxWatchPause, failures))):
		}
		failures++
	}
}

func (w *watcher) selector() metav1.ListOptions {
	return metav1.ListOptions{LabelSelector: cellLabel + "=" + w.view.cell}
}

// list reads all objects, and forgets those that are gone. A version of "" says that the kind is not served now.
func (w *watcher) list(ctx context.Context) (version string, err error) {
	before := w.versions()
	var all []*unstructured.Unstructured
	version, err = w.view.cluster.list(ctx, w.resource, w.key.namespace, w.selector(),
		func(o *unstructured.Unstructured) { all = append(all, o) })
	isServed := !apierrors.IsNotFound(err) // its definition may have been deleted
	if err != nil && isServed {
		return "", err
	}
	v := w.view
	v.mu.Lock()
	defer v.mu.Unlock()
	if ctx.Err() != nil { // another watch took over
		return "", ctx.Err()
	}
	// What was not written since the list was asked for is as the list says, even if its version went back: the
	// cluster's store was restored from a backup.
	isNewer := func(of id, listed string) bool {
		known := v.objects[of].version
		return known != before[of] && !isOlder(known, listed)
	}
	there := map[id]bool{}
	for _, o := range all {
		of := idOf(o)
		there[of] = true
		if known, ok := v.objects[of]; ok && !isNewer(of, o.GetResourceVersion()) {
			known.version = ""
			v.objects[of] = known
		}
		v.store(o, w.resource)
	}
	for of := range v.objects {
		if w.covers(of) && !there[of] && (!isServed || !isNewer(of, version)) {
			v.forget(of)
		}
	}
	if !w.isSynced {
		w.isSynced = true
		close(w.synced)
	}
	w.fault = nil
	v.signal()
	return version, nil
}

// versions returns the versions of the objects that the watcher sees.
func (w *watcher) versions() map[id]string {
	v := w.view
	v.mu.Lock()
	defer v.mu.Unlock()
	all := map[id]string{}
	for of, o := range v.objects {
		if w.covers(of) {
			all[of] = o.version
		}
	}
	return all
}

// covers reports whether an object is one that the watcher sees.
func (w *watcher) covers(of id) bool {
	return of.groupKind() == w.resource.kind && (w.key.namespace == "" || w.key.namespace == of.Namespace)
}

// follow takes changes until the API server ends the watch, and returns the version from which to go on; "" means by a
// list, since the API server may not know that version, or not any more.
func (w *watcher) follow(ctx context.Context, version string) (string, error) {
	o := w.selector()
	seconds := int64(300 + rand.IntN(300)) //nolint:gosec // spreads load
	o.ResourceVersion, o.AllowWatchBookmarks, o.TimeoutSeconds = version, true, &seconds
	changes, err := w.view.cluster.at(w.resource, w.key.namespace).Watch(ctx, o)
	if err != nil {
		if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
			return "", pause(ctx, minWatchPause)
		}
		if !apierrors.IsTooManyRequests(err) {
			version = "" // while the API server was away, its store may have been restored, without that version
		}
		return version, err
	}
	defer changes.Stop()
	w.view.mu.Lock()
	w.fault = nil
	w.view.mu.Unlock()
	for {
		select {
		case <-ctx.Done():
			return version, ctx.Err()
		case change, ok := <-changes.ResultChan():
			if !ok { // a server that ends each watch at once is not asked again and again
				return version, pause(ctx, minWatchPause)
			}
			live, isObject := change.Object.(*unstructured.Unstructured)
			if change.Type == watch.Error || !isObject { // expired, most often
				return "", pause(ctx, minWatchPause)
			}
			version = live.GetResourceVersion()
			w.take(ctx, change.Type, live)
		}
	}
}

func (w *watcher) take(ctx context.Context, kind watch.EventType, live *unstructured.Unstructured) {
	v := w.view
	v.mu.Lock()
	defer v.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	switch kind {
	case watch.Added, watch.Modified:
		v.store(live, w.resource)
	case watch.Deleted:
		of := idOf(live)
		if known, ok := v.objects[of]; ok && !isOlder(live.GetResourceVersion(), known.version) {
			v.forget(of)
		}
	}
}
