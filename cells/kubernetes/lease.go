package kubernetes

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/internal/cleantext"
	"github.com/sluice-cd/sluice/internal/words"
)

const (
	leaseName       = "sluice-agent"
	leaseDuration   = 30 * time.Second // a holder that does not renew it for so long no longer acts
	leaseRenewEvery = 10 * time.Second
	leaseTimeout    = 8 * time.Second // of one request
	leaseLookEvery  = 2 * time.Second // of an agent that waits

	leaseFile    = "lease" // in the state folder: the folder's id
	maxLeaseFile = 128     // bytes

	microTime = "2006-01-02T15:04:05.000000Z07:00" // a metav1.MicroTime
)

// holder is a process that may act in a cluster, as the Lease names it. A process that was started anew with the same
// state folder goes on at once; with a copy of the folder it takes over, and the process before notices.
type holder struct{ cell, host, folder, start string }

func (h holder) String() string {
	return strings.Join([]string{h.cell, h.host, h.folder, h.start}, "_")
}

func parseHolder(text string) holder {
	parts := strings.SplitN(text, "_", 4)
	if len(parts) != 4 {
		return holder{cell: text} // another program's
	}
	return holder{parts[0], parts[1], parts[2], parts[3]}
}

// leaseRecord is what a Lease says.
type leaseRecord struct {
	holder  string // empty: nobody
	since   string // in RFC 3339
	renewed string
	version string // the resource version; empty: there is no Lease
}

// mayTake decides whether a process may take, or keep, the Lease: it is nobody's or its own, or the holder did not
// renew it for long enough. Only this process's own clock counts, from when it first saw the record as it is: clocks of
// machines and of the cluster may be off. held says that this process held it before.
func (r leaseRecord) mayTake(me holder, held bool, seenFor time.Duration) bool {
	other := parseHolder(r.holder)
	switch {
	case r.holder == "" || other == me:
		return true
	case other.folder == me.folder && me.folder != "" && !held: // the process before this one
		return true
	}
	return seenFor >= leaseDuration
}

// lease is the right to act in a cluster, which one agent has at a time. mu guards what follows it. busy is held during
// a request, and taken before mu.
type lease struct {
	client    dynamic.ResourceInterface
	namespace string
	file      string // of the state folder's id
	running   sync.WaitGroup

	busy sync.Mutex

	mu      sync.Mutex
	me      holder // its folder is read with the first request
	seen    leaseRecord
	seenAt  time.Time
	until   time.Time   // the Lease is this process's until then, by the monotonic clock
	byWall  time.Time   // and until then by the wall clock: the other one stands while the machine is suspended
	lapses  *time.Timer // calls lapse then
	held    bool        // it was, once
	lookAt  time.Time   // when to look next, if it is another's
	fault   error       // why it is not this process's
	stop    context.CancelFunc
	acting  context.CancelCauseFunc // ends what runs now; nil: nothing does
	started time.Time               // when this process became the holder
}

func newLease(c *cluster, o Options) *lease {
	gvr := schema.GroupVersionResource{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return &lease{client: c.dynamic.Resource(gvr).Namespace(o.Namespace), namespace: o.Namespace,
		file: filepath.Join(o.StateDir, leaseFile),
		me:   holder{cell: o.Cell, host: strings.ReplaceAll(host, "_", "-"), start: rand.Text()}}
}

// identify reads the id of the state folder, and makes it before its first use: by then the agent has the folder for
// itself. l.busy is held.
func (l *lease) identify() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.me.folder != "" {
		return nil
	}
	text, err := disk.ReadLimited(l.file, maxLeaseFile)
	if errors.Is(err, os.ErrNotExist) || err == nil && len(text) == 0 {
		text = []byte(rand.Text())
		err = disk.ReplaceFile(l.file, text)
	}
	if err != nil {
		return &cells.UnavailableError{Cause: err}
	}
	l.me.folder = string(text)
	return nil
}

// act returns a context that ends once the Lease is lost, or says who else has it. end must be called.
func (l *lease) act(ctx context.Context) (acting context.Context, end func(), err error) {
	if err := l.ensure(ctx); err != nil {
		return nil, nil, err
	}
	acting, cancel := context.WithCancelCause(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.isMine(time.Now()) { // it ended meanwhile
		cancel(nil)
		return nil, nil, l.lapsed()
	}
	l.acting = cancel
	return acting, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.acting = nil
		cancel(nil)
	}, nil
}

// ensure returns nil if the Lease is this process's, and takes it if nobody has it.
func (l *lease) ensure(ctx context.Context) error {
	now := time.Now()
	l.mu.Lock()
	isMine, fault, wait := l.isMine(now), l.fault, now.Before(l.lookAt)
	l.mu.Unlock()
	switch {
	case isMine:
		return nil
	case wait && fault != nil:
		return fault
	}
	err := l.try(ctx)
	if err == nil {
		l.keep(ctx)
	}
	return err
}

// keep renews the Lease from now on.
func (l *lease) keep(ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stop != nil {
		return
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	l.stop = stop
	l.running.Go(func() {
		for asked := time.Now(); pause(running, leaseLookEvery) == nil; {
			l.mu.Lock()
			isMine := l.isMine(time.Now())
			l.mu.Unlock()
			if isMine && time.Since(asked) < leaseRenewEvery {
				continue
			}
			asked = time.Now()
			if l.try(running) != nil {
				l.lapse()
			}
		}
	})
}

// extend notes that the Lease is this process's for leaseDuration after it asked. l.mu is held.
func (l *lease) extend(asked time.Time) {
	l.until, l.held = asked.Add(leaseDuration), true
	l.byWall = l.until.Round(0)
	if l.lapses == nil {
		l.lapses = time.AfterFunc(time.Until(l.until), l.lapse)
		return
	}
	l.lapses.Reset(time.Until(l.until))
}

// isMine reports whether the Lease is this process's at now. l.mu is held.
func (l *lease) isMine(now time.Time) bool {
	return now.Before(l.until) && now.Round(0).Before(l.byWall)
}

// lapse ends what runs once the Lease is not this process's any more: another may act from then on.
func (l *lease) lapse() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.acting != nil && !l.isMine(time.Now()) {
		l.acting(l.lapsed())
	}
}

// lapsed says why the Lease is not this process's. l.mu is held.
func (l *lease) lapsed() error {
	if l.fault != nil {
		return l.fault
	}
	return &cells.UnavailableError{Cause: fmt.Errorf("this agent did not renew its Lease %s/%s for %s: the machine "+
		"was suspended, or the API server does not answer", l.namespace, leaseName, leaseDuration)}
}

// isAnothers reports whether another process has the Lease. l.mu is held.
func (l *lease) isAnothers() bool { return l.seen.holder != "" && l.seen.holder != l.me.String() }

// try takes or renews the Lease.
func (l *lease) try(ctx context.Context) error {
	l.busy.Lock()
	defer l.busy.Unlock()
	ctx, cancel := context.WithTimeout(ctx, leaseTimeout)
	defer cancel()
	asked := time.Now()
	err := l.identify()
	if err == nil {
		err = l.takeOrRenew(ctx, asked)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fault, l.lookAt = err, time.Now().Add(leaseLookEvery)
	if err != nil {
		if l.isAnothers() {
			l.until = time.Time{}
		}
		return err
	}
	l.extend(asked)
	return nil
}

func (l *lease) takeOrRenew(ctx context.Context, now time.Time) error {
	live, err := l.client.Get(ctx, leaseName, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return unavailable("ask who acts in the cluster", err)
	}
	var found leaseRecord
	if err == nil {
		found = readLease(live)
	}
	l.mu.Lock()
	if found != l.seen {
		l.seen, l.seenAt = found, now
	}
	held, seenFor := l.held, now.Sub(l.seenAt)
	if found.holder != l.me.String() {
		l.started = now
	}
	since := l.started
	l.mu.Unlock()
	if !found.mayTake(l.me, held, seenFor) {
		return &cells.UnavailableError{Cause: l.described(found)}
	}
	manifest := writeLease(l.me, found, since, now)
	if found.version == "" {
		live, err = l.client.Create(ctx, manifest, metav1.CreateOptions{FieldManager: fieldManager})
	} else {
		live, err = l.client.Update(ctx, manifest, metav1.UpdateOptions{FieldManager: fieldManager})
	}
	switch {
	case apierrors.IsNotFound(err) && found.version == "": // no namespace yet: nobody has a Lease there
		return nil
	case err != nil:
		return unavailable("say in the cluster that this agent acts", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen, l.seenAt = readLease(live), now
	return nil
}

// described says who has the Lease.
func (l *lease) described(r leaseRecord) error {
	other := parseHolder(r.holder)
	who := fmt.Sprintf("the agent of cell %s on host %s", cleantext.Line(other.cell),
		cleantext.Line(cmp.Or(other.host, "?")))
	if other.folder == l.me.folder {
		who += ", with a copy of this state folder,"
	}
	since := r.since
	if at, err := time.Parse(time.RFC3339Nano, r.since); err == nil {
		since = words.FormatTime(at)
	}
	return fmt.Errorf("%s acts in this cluster since %s (Lease %s/%s): this agent waits; stop the one that is not to act",
		who, cleantext.Line(since), l.namespace, leaseName)
}

// close stops renewing, and lets another have the Lease at once.
func (l *lease) close() {
	l.mu.Lock()
	stop := l.stop
	isMine := l.isMine(time.Now()) && l.seen.holder == l.me.String()
	l.until = time.Time{}
	if l.lapses != nil {
		l.lapses.Stop()
	}
	found := l.seen
	l.mu.Unlock()
	if stop != nil {
		stop()
	}
	l.running.Wait()
	if !isMine {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	// If it can't be given back, it runs out.
	_, _ = l.client.Update(ctx, writeLease(holder{}, found, time.Now(), time.Now()), metav1.UpdateOptions{
		FieldManager: fieldManager})
}

func readLease(live *unstructured.Unstructured) leaseRecord {
	text := func(field string) string {
		value, _, _ := unstructured.NestedString(live.Object, "spec", field)
		return value
	}
	return leaseRecord{holder: text("holderIdentity"), since: text("acquireTime"), renewed: text("renewTime"),
		version: live.GetResourceVersion()}
}

// writeLease returns the Lease with another holder; the zero value: nobody.
func writeLease(h holder, before leaseRecord, since, now time.Time) *unstructured.Unstructured {
	spec := map[string]any{"leaseDurationSeconds": int64(leaseDuration / time.Second),
		"acquireTime": since.UTC().Format(microTime), "renewTime": now.UTC().Format(microTime)}
	if h != (holder{}) {
		spec["holderIdentity"] = h.String()
	}
	metadata := map[string]any{"name": leaseName}
	if before.version != "" {
		metadata["resourceVersion"] = before.version
	}
	return &unstructured.Unstructured{Object: map[string]any{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
		"metadata": metadata, "spec": spec}}
}
