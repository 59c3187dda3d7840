package notices

import (
	"fmt"
	"io/fs"
	"maps"
	"net/mail"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/internal/window"
)

// File is the name of the subscriptions, at the top of the release repository.
const File = "notices.yaml"

// Subscriptions is notices.yaml: where notices go, and which of them.
type Subscriptions struct {
	APIVersion string           `yaml:"apiVersion" json:"apiVersion" required:"true" enum:"sluice/v1"`
	Kind       string           `yaml:"kind" json:"kind" required:"true" enum:"Notices"`
	Sinks      map[string]*Sink `yaml:"sinks" json:"sinks" required:"true" doc:"where notices can go, by name"`
	Customers  []string         `yaml:"customers" json:"customers,omitempty" doc:"names of sinks by which cells' customers are told of infrastructure updates, and of maintenances ahead of time: mail goes to the contacts in cell.yaml, any other sink is told once for each cell"`
	Subscribe  []Subscription   `yaml:"subscribe" json:"subscribe,omitempty" doc:"which notices go there; a notice goes to a sink once, however many entries fit"`
}

// SinkType says how a sink is spoken to.
type SinkType string

const (
	WebhookSink SinkType = "webhook" // signed CloudEvents, for programs
	SlackSink   SinkType = "slack"   // Slack's incoming webhooks, and what understands them, such as Mattermost
	TeamsSink   SinkType = "teams"   // a card for a workflow of Microsoft Teams
	MailSink    SinkType = "mail"    // e-mail over SMTP
)

// Sink is one place for notices. No secret is in git: Secret names a file on the control plane's machine.
type Sink struct {
	Type   SinkType `yaml:"type" json:"type" required:"true" enum:"webhook,slack,teams,mail"`
	Secret string   `yaml:"secret" json:"secret" required:"true" doc:"name of a file in the folder that sluice serve --notice-secrets names: of a webhook whsec_BASE64, of slack and teams the URL, of mail smtps://USER:PASSWORD@HOST or smtp://…, which uses STARTTLS"`
	URL    string   `yaml:"url" json:"url,omitempty" doc:"of a webhook: https://…; http:// only on loopback"`
	From   string   `yaml:"from" json:"from,omitempty" doc:"of mail: the sender, such as Sluice <sluice@example.com>"`
	To     []string `yaml:"to" json:"to,omitempty" doc:"of mail: the recipients, unless it is for customers alone; each gets a message of their own"`
}

// Subscription is a filter: a notice that fits all its fields goes to the sink. A field that is left out fits all.
type Subscription struct {
	Sink     string            `yaml:"sink" json:"sink" required:"true" doc:"a name in sinks"`
	Kinds    []Kind            `yaml:"kinds" json:"kinds,omitempty" doc:"promotion, waiting, failing, rollback, halt, quarantine, stuck, shut-out, unreadable, kill-unconfirmed, maintenance, overran, infrastructure; none: all"`
	Severity Severity          `yaml:"severity" json:"severity,omitempty" enum:"info,warning,critical" doc:"the least; default info"`
	Channels []string          `yaml:"channels" json:"channels,omitempty" doc:"only notices about these, or about no channel; none: all"`
	Labels   map[string]string `yaml:"labels" json:"labels,omitempty" doc:"only notices about cells with these labels; the message names only those"`
	Quiet    *Quiet            `yaml:"quiet" json:"quiet,omitempty" doc:"when messages wait"`
}

// Quiet are hours in which messages wait; what waited comes as one message at their end.
type Quiet struct {
	Windows []window.Window `yaml:"windows" json:"windows" required:"true" doc:"when messages wait"`
	Except  Severity        `yaml:"except" json:"except,omitempty" enum:"info,warning,critical" doc:"what matters this much comes at once; default critical"`
}

// secretPattern is for names of files, which must not lead out of their folder.
var secretPattern = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)
})

const (
	maxSinks         = 100
	maxSubscriptions = 500
	maxRecipients    = 50 // of one sink
)

// Load reads the subscriptions from a repository's files. Nil without faults: there is no such file. With faults that
// are not warnings, the result is nil.
func Load(cache *manifest.Cache, files fs.FS) (*Subscriptions, []manifest.Fault) {
	return manifest.Load(cache, files, File, check)
}

func check(doc *manifest.Doc[Subscriptions]) (faults []manifest.Fault) {
	s := &doc.Value
	faults = doc.RefuseEmpty()
	add := func(code manifest.FaultCode, at, format string, args ...any) {
		faults = append(faults, doc.Fault(code, at, format, args...))
	}
	if len(s.Sinks) > maxSinks {
		add(manifest.TooLarge, "sinks", "%d sinks, and %d are allowed", len(s.Sinks), maxSinks)
	}
	if len(s.Subscribe) > maxSubscriptions {
		add(manifest.TooLarge, "subscribe", "%d subscriptions, and %d are allowed", len(s.Subscribe), maxSubscriptions)
	}
	used := map[string]bool{}
	for i, name := range s.Customers {
		at := fmt.Sprintf("customers[%d]", i)
		if used[name] = true; s.Sinks[name] == nil {
			add(manifest.UnknownReference, at, "there is no sink %.70q; there are: %s", name,
				strings.Join(slices.Sorted(maps.Keys(s.Sinks)), ", "))
		}
		if slices.Contains(s.Customers[:i], name) {
			add(manifest.Duplicate, at, "%.70q is there twice", name)
		}
	}
	for i := range s.Subscribe {
		at := fmt.Sprintf("subscribe[%d]", i)
		used[s.Subscribe[i].Sink] = true
		if s.Sinks[s.Subscribe[i].Sink] == nil {
			add(manifest.UnknownReference, at+".sink", "there is no sink %.70q; there are: %s", s.Subscribe[i].Sink,
				strings.Join(slices.Sorted(maps.Keys(s.Sinks)), ", "))
		}
		checkSubscription(&s.Subscribe[i], at, add)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Sinks)) {
		at := "sinks[" + name + "]"
		if !manifest.IsLabel(name) {
			add(manifest.WrongName, at, "%.70q can't name a sink: 1 to 63 lower-case letters, digits and hyphens", name)
		}
		if sink := s.Sinks[name]; sink != nil {
			subscribed := slices.ContainsFunc(s.Subscribe, func(sub Subscription) bool { return sub.Sink == name })
			checkSink(sink, at, subscribed || !slices.Contains(s.Customers, name), add)
		}
		if !used[name] {
			faults = append(faults, doc.Warning(manifest.Unused, at, "nothing is subscribed to %s", name))
		}
	}
	return faults
}

type addFault = func(code manifest.FaultCode, at, format string, args ...any)

func checkSubscription(s *Subscription, at string, add addFault) {
	for i, kind := range s.Kinds {
		if !slices.Contains(Kinds(), kind) {
			add(manifest.WrongValue, fmt.Sprintf("%s.kinds[%d]", at, i), "there is no kind %.60q; there are: %s", kind,
				joinKinds(Kinds()))
		}
	}
	if s.Quiet == nil {
		return
	}
	for i := range s.Quiet.Windows {
		w, at := &s.Quiet.Windows[i], fmt.Sprintf("%s.quiet.windows[%d]", at, i)
		for _, f := range w.Compile() {
			add(manifest.WrongValue, at+"."+f.Field, "%s", f.Reason)
		}
		if w.For > maxQuiet {
			add(manifest.WrongValue, at+".for", "%s is too long: a message that waits so long may be given up; %s are allowed",
				w.For, maxQuiet)
		}
	}
}

// maxQuiet leaves a message time to arrive afterwards.
const maxQuiet = 60 * time.Hour

func joinKinds(kinds []Kind) string {
	all := make([]string, len(kinds))
	for i, k := range kinds {
		all[i] = string(k)
	}
	return strings.Join(all, ", ")
}

// checkSink checks one sink. recipients: mail needs some; else it goes to cells' contacts alone.
func checkSink(s *Sink, at string, recipients bool, add addFault) {
	switch isSecret := strings.Contains(s.Secret, "://") || strings.HasPrefix(s.Secret, "whsec_"); {
	case isSecret:
		add(manifest.Secret, at+".secret", "the secret itself would be in git: put it into a file, and name that")
	case s.Secret != "" && !secretPattern().MatchString(s.Secret):
		add(manifest.WrongName, at+".secret",
			"%.70q can't name a file of --notice-secrets: letters, digits and . _ -, no folder", s.Secret)
	}
	if s.Type == WebhookSink {
		if err := repository.CheckURL(s.URL); err != nil {
			add(repository.URLFaultCode(err), at+".url", "url %v", err)
		}
	} else if s.URL != "" {
		add(manifest.Conflict, at+".url", "only a webhook has a url; that of slack and teams is a secret")
	}
	if s.Type != MailSink {
		if s.From != "" || len(s.To) > 0 {
			add(manifest.Conflict, at, "only mail has from and to")
		}
		return
	}
	if _, err := ParseAddress(s.From); err != nil {
		add(manifest.WrongValue, at+".from", "from %v", err)
	}
	if recipients && len(s.To) == 0 || len(s.To) > maxRecipients {
		add(manifest.WrongValue, at+".to", "mail goes to 1 to %d recipients", maxRecipients)
	}
	for i, to := range s.To {
		path := fmt.Sprintf("%s.to[%d]", at, i)
		if _, err := ParseAddress(to); err != nil {
			add(manifest.WrongValue, path, "it %v", err)
		}
		if slices.Contains(s.To[:i], to) {
			add(manifest.Duplicate, path, "%.100q is there twice", to)
		}
	}
}

// ParseAddress parses an address of mail, with or without a name.
func ParseAddress(text string) (*mail.Address, error) {
	a, err := mail.ParseAddress(text)
	if err != nil || strings.ContainsAny(text, "\r\n") || len(text) > 320 {
		return nil, fmt.Errorf("must be an address such as ada@example.com, not %.100q", text)
	}
	return a, nil
}

// Host returns where a sink is, without what may be a secret; empty: only its secret says so.
func (s *Sink) Host() string {
	if u, err := url.Parse(s.URL); err == nil {
		return u.Host
	}
	return ""
}

// Parse returns the subscriptions that a text holds; nil: it has faults, or is empty.
func Parse(text []byte) *Subscriptions {
	doc, faults := manifest.Decode[Subscriptions](File, text)
	if manifest.Fatal(faults) || manifest.Fatal(check(doc)) {
		return nil
	}
	return &doc.Value
}
