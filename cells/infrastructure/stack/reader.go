package stack

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/infrastructure"
)

// Options say what a Reader reads.
type Options struct {
	Stacks     []string      // at least one, in the order in which an update is executed
	Quotas     []cells.Quota // that are needed; their values are read
	DriftEvery time.Duration // between looks for drift; default 6h
	// HOST:PORT of endpoints that the cell's cluster needs, by the name of the service; nil: AWS's own
	Endpoints map[string]string
}

const (
	maxStacks      = 32  // as templates of one update
	maxChangeSets  = 500 // that are looked at; AWS returns a page at a time
	quotasEvery    = time.Hour
	defaultDrift   = 6 * time.Hour
	perRequest     = 8 * time.Second // tries included
	driftsPerStack = "100"
	drifted        = "DRIFTED" // AWS's word
)

// Reader reads stacks. It is an infrastructure.Reader, and a preflight may use it meanwhile.
type Reader struct {
	options Options

	mu  sync.Mutex // guards what follows
	aws *cloud     // nil: not yet connected

	looks    map[string]look // for drift, by stack
	quotas   []cells.Quota   // as they were read last
	quotasAt time.Time
	unread   []string // of the quotas
}

// look is a look for drift that was asked for.
type look struct {
	at    time.Time
	fault string // empty: AWS looks
}

// NewReader returns a Reader, which asks nothing before its first read.
func NewReader(o Options) *Reader {
	o.DriftEvery = cmp.Or(o.DriftEvery, defaultDrift)
	return &Reader{options: o, looks: map[string]look{}}
}

// Source returns where the state comes from.
func (r *Reader) Source() cells.InfrastructureSource { return cells.SourceCloudFormation }

// Read asks AWS. What has no number, status or stack is an error; what else can't be read is in Unread.
func (r *Reader) Read(ctx context.Context) (infrastructure.State, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.connect(ctx); err != nil {
		return infrastructure.State{}, err
	}
	now := time.Now()
	var got reading
	for _, name := range r.options.Stacks {
		s, err := r.aws.describe(ctx, name)
		if err != nil {
			return infrastructure.State{}, err
		}
		got.stacks = append(got.stacks, s)
	}
	last := got.stacks[len(got.stacks)-1]
	var err error
	if got.metadata, err = r.aws.metadata(ctx, last.name); err != nil {
		return infrastructure.State{}, err
	}
	if got.parameter, err = r.aws.version(ctx, last.name); err != nil {
		return infrastructure.State{}, err
	}
	for i := range got.stacks {
		got.unread = append(got.unread, r.readMore(ctx, &got.stacks[i], now)...)
	}
	if now.Sub(r.quotasAt) >= quotasEvery {
		r.readQuotas(ctx)
		r.quotasAt = now
	}
	got.quotas, got.unread = r.quotas, append(got.unread, r.unread...)
	return judge(got)
}

func (r *Reader) connect(ctx context.Context) error {
	if r.aws == nil {
		c, err := connect(ctx)
		if err != nil {
			return err
		}
		r.aws = c
	}
	return r.aws.checkCredentials(ctx)
}

// readMore adds what a stack's state does not depend on, and returns what could not be read.
func (r *Reader) readMore(ctx context.Context, s *description, now time.Time) (unread []string) {
	var err error
	if s.changeSets, err = r.aws.changeSets(ctx, s.name); err != nil {
		unread = append(unread, err.Error())
	}
	if s.drift == drifted {
		if s.drifted, err = r.aws.driftedResources(ctx, s.name); err != nil {
			unread = append(unread, err.Error())
		}
	}
	if isDue(s, r.looks[s.name].at, r.options.DriftEvery, now) {
		l := look{at: now}
		if err := r.aws.lookForDrift(ctx, s.name); err != nil {
			l.fault = err.Error()
		}
		r.looks[s.name] = l
	}
	if fault := r.looks[s.name].fault; fault != "" {
		unread = append(unread, fault)
	}
	return unread
}

// isDue reports whether AWS is to look for drift now. asked is when it was asked last.
func isDue(s *description, asked time.Time, every time.Duration, now time.Time) bool {
	status, err := statusOf(s)
	quiet := err == nil && (status == cells.InfrastructureApplied || status == cells.InfrastructureDrifted)
	return quiet && now.Sub(s.checked) >= every && now.Sub(asked) >= every
}

func (r *Reader) readQuotas(ctx context.Context) {
	r.quotas, r.unread = nil, nil
	for _, q := range r.options.Quotas {
		value, err := r.aws.quota(ctx, q)
		if err != nil {
			r.unread = append(r.unread, err.Error())
			continue
		}
		q.Value = value
		r.quotas = append(r.quotas, q)
	}
}
