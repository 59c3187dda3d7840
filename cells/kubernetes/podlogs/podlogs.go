package podlogs

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"

	"github.com/sluice-cd/sluice/releases/diagnostics"
)

const (
	requestTimeout = 35 * time.Second
	lookEvery      = 2 * time.Second // for containers that were started meanwhile
	maxAtOnce      = 50              // containers that are read
	maxLine        = 64 << 10        // bytes after which a line is divided
)

// Reader reads logs of pods.
type Reader struct {
	client    rest.Interface
	namespace string // of pods whose log names none
}

// New returns a reader, which asks the API server nothing yet.
func New(config *rest.Config, namespace string) (*Reader, error) {
	statuses := runtime.NewScheme() // answers that are errors; others are read as they are
	metav1.AddToGroupVersion(statuses, schema.GroupVersion{Version: "v1"})
	config = rest.CopyConfig(config)
	config.QPS = -1 // the API server's priority and fairness limits
	config.UserAgent = "sluice-agent"
	config.NegotiatedSerializer = serializer.NewCodecFactory(statuses).WithoutConversion()
	client, err := rest.UnversionedRESTClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("prepare to read logs of pods: %w", err)
	}
	return &Reader{client: client, namespace: namespace}, nil
}

// Read writes the logs of pods to out, in whole lines, until that is done or ctx ends. It calls say with what the
// person has to know beside that. An error means that nothing was read, that out took no more, or that ctx ended.
func (r *Reader) Read(ctx context.Context, what diagnostics.LogRead, out io.Writer, say func(string)) error {
	j := &job{reader: r, what: what, namespace: cmp.Or(what.Log.Pods.Namespace, r.namespace), to: out, say: say,
		noted: map[string]bool{}, read: map[string]*progress{}}
	if what.Follow {
		return j.follow(ctx)
	}
	all, err := j.instances(ctx)
	if err != nil {
		return err
	}
	failed := 0
	for _, i := range all {
		if _, err := j.copy(ctx, i, start{since: what.Since, tail: what.Tail}); err != nil {
			failed++
			j.note(i.pod + "/" + i.container + ": " + r.explain(err, "read the log", j.namespace).Error())
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	if failed == len(all) {
		return errors.New("there is no log that can be read")
	}
	return nil
}

// job is one call of Read.
type job struct {
	reader    *Reader
	what      diagnostics.LogRead
	namespace string

	writing sync.Mutex // held while one line is written, or something is said
	to      io.Writer
	say     func(string)

	isCut bool            // there are more pods than are looked at
	noted map[string]bool // what the person was told once; only the goroutine that calls instances uses both

	mu   sync.Mutex // guards what follows
	read map[string]*progress
}

// progress is how far the log of an instance is read.
type progress struct {
	from   start     // where to begin while it has no line
	began  bool      // it is read, or was
	isRead bool      // now
	last   time.Time // of the last line
	said   string    // what went wrong
}

// start is where to begin to read.
type start struct {
	since time.Duration // 0: any age
	tail  int           // 0: all lines
	after time.Time     // only lines after it; zero: all
}

func (j *job) note(text string) {
	j.writing.Lock()
	defer j.writing.Unlock()
	j.say(text)
}

func (j *job) noteOnce(text string) {
	if !j.noted[text] {
		j.noted[text] = true
		j.note(text)
	}
}

func (j *job) write(line string) error {
	j.writing.Lock()
	defer j.writing.Unlock()
	_, err := io.WriteString(j.to, line)
	return err
}

// instances returns the containers whose logs are wanted.
func (j *job) instances(ctx context.Context) ([]instance, error) {
	pods, isCut, err := j.reader.find(ctx, j.what.Log.Pods, j.namespace)
	if err != nil {
		return nil, err
	}
	if isCut {
		j.isCut = true
		j.noteOnce(fmt.Sprintf("there are more pods than are looked at (%d at once): the logs of some are missing, and "+
			"labels that fewer have would show all", maxPods))
	}
	var all []instance
	for i := range pods {
		all = append(all, pods[i].instances(j.what.Container)...)
	}
	switch {
	case len(pods) == 0:
		return nil, fmt.Errorf("there are no such pods in namespace %s", j.namespace)
	case len(all) == 0:
		return nil, fmt.Errorf("no such pod in namespace %s has a container %s", j.namespace, j.what.Container)
	}
	return all, nil
}

// follow reads logs as they grow, also of containers that are started meanwhile, until ctx ends.
func (j *job) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var streams sync.WaitGroup
	defer streams.Wait()
	defer cancel(nil)
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	said := ""
	for isFirst := true; ; isFirst = false {
		all, err := j.instances(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil && isFirst:
			return err
		case err != nil && err.Error() != said:
			said = err.Error()
			j.note(said)
		}
		for _, i := range all {
			from := start{} // of a container that was started meanwhile, all
			if isFirst || j.isCut {
				from = start{since: j.what.Since, tail: j.what.Tail}
			}
			p, waits := j.begin(i, &from)
			if p != nil {
				streams.Go(func() { j.followOne(ctx, i, from, p, cancel) })
			}
			if waits {
				j.noteOnce(fmt.Sprintf("%d containers are followed at once: others wait until one of them ends; name "+
					"one with --container", maxAtOnce))
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

// begin returns the progress of an instance whose log has to be read from now on; nil: it has not, or it waits for
// others to end.
func (j *job) begin(i instance, from *start) (_ *progress, waits bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !i.started {
		return nil, false
	}
	p := j.read[i.key]
	if p == nil {
		p = &progress{from: *from}
		j.read[i.key] = p
	}
	active := 0
	for _, other := range j.read {
		if other.isRead {
			active++
		}
	}
	switch {
	case p.isRead || p.began && !i.running:
		return nil, false
	case active >= maxAtOnce:
		return nil, true
	case !p.last.IsZero(): // the connection broke off
		*from = start{after: p.last}
	default: // it waited, or could not be read
		*from = p.from
	}
	p.began, p.isRead = true, true
	return p, false
}

func (j *job) followOne(ctx context.Context, i instance, from start, p *progress, cancel context.CancelCauseFunc) {
	last, err := j.copy(ctx, i, from)
	if out, ok := errors.AsType[*outError](err); ok {
		cancel(out)
	}
	j.mu.Lock()
	p.isRead = false
	if last.After(p.last) {
		p.last = last
	}
	isNew := err != nil && ctx.Err() == nil && err.Error() != p.said
	if isNew {
		p.said = err.Error()
	}
	j.mu.Unlock()
	if isNew {
		j.note(i.pod + "/" + i.container + ": " + j.reader.explain(err, "read the log", j.namespace).Error())
	}
}

// outError means that what was read can't be passed on.
type outError struct{ cause error }

func (e *outError) Error() string { return e.cause.Error() }

// copy writes the log of an instance, and returns the time of the last line.
func (j *job) copy(ctx context.Context, i instance, from start) (last time.Time, err error) {
	q := j.reader.client.Get().AbsPath("/api", "v1", "namespaces", j.namespace, "pods", i.pod, "log").
		Param("container", i.container).Param("timestamps", "true").
		Param("follow", strconv.FormatBool(j.what.Follow)).Param("previous", strconv.FormatBool(j.what.Previous))
	if !j.what.Follow {
		q.Param("limitBytes", strconv.Itoa(diagnostics.MaxLogOutput))
	}
	if from.tail > 0 {
		q.Param("tailLines", strconv.Itoa(from.tail))
	}
	if from.since > 0 {
		q.Param("sinceSeconds", strconv.Itoa(max(1, int(from.since/time.Second))))
	}
	if !from.after.IsZero() {
		q.Param("sinceTime", from.after.UTC().Format(time.RFC3339)) // whole seconds: some lines come again
	}
	body, err := q.Stream(ctx)
	if err != nil {
		return last, err
	}
	defer func() { _ = body.Close() }()
	lines := bufio.NewReaderSize(body, maxLine)
	prefix := i.pod + "/" + i.container + ": "
	begins, skips := true, false // a line, that was written before
	for {
		part, err := lines.ReadSlice('\n')
		text := string(part)
		if begins && text != "" {
			stamp, rest, _ := strings.Cut(text, " ")
			if at, failed := time.Parse(time.RFC3339Nano, stamp); failed == nil {
				text, last, skips = rest, at, !from.after.IsZero() && !at.After(from.after)
			}
		}
		begins = strings.HasSuffix(text, "\n")
		if len(part) > 0 && !skips {
			if err := j.write(prefix + strings.TrimSuffix(text, "\n") + "\n"); err != nil {
				return last, &outError{err}
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return last, nil
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return last, err
		}
	}
}
