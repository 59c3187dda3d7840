// Package stacktest is a made-up AWS account for tests: as much of CloudFormation, Systems Manager, STS and Service
// Quotas as a cell's agent and its customer use, over HTTP as AWS's own programs speak it.
//
// It makes nothing of a stack's resources but parameters of Systems Manager. Signatures are not checked, but the access
// key says who asks, and what they may. An Account may be used at once.
package stacktest

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// The account and the region.
const (
	Number = "123456789012"
	Region = "eu-central-1"
)

// Account is an AWS account in one region. Make it with New.
type Account struct {
	mu         sync.Mutex
	stacks     map[string]*stack // by name
	parameters map[string]string // of Systems Manager
	quotas     map[string]float64
	policies   map[string]Policy // by access key
	asked      []string
	throttled  int  // requests that will be
	held       bool // updates wait for Finish
	broken     bool // updates fail
	made       int
}

// Policy says what a key may ask for. An action is such as ssm:GetParameter; patterns end with a star.
type Policy struct{ Allow, Deny []string }

// New returns an empty account, in which an access key ADMIN may do anything.
func New() *Account {
	return &Account{stacks: map[string]*stack{}, parameters: map[string]string{}, quotas: map[string]float64{},
		policies: map[string]Policy{"ADMIN": {Allow: []string{"*"}}}}
}

// Allow gives an access key a policy.
func (a *Account) Allow(key string, p Policy) {
	a.locked(func() { a.policies[key] = p })
}

// SetQuota sets a quota, by SERVICE/CODE.
func (a *Account) SetQuota(name string, value float64) { a.locked(func() { a.quotas[name] = value }) }

// Throttle has the next requests refused as too many.
func (a *Account) Throttle(requests int) { a.locked(func() { a.throttled = requests }) }

// Hold has creations and updates of stacks wait for Finish.
func (a *Account) Hold() { a.locked(func() { a.held = true }) }

// Finish ends those that wait, and lets later ones through.
func (a *Account) Finish() {
	a.locked(func() {
		a.held = false
		for _, s := range a.stacks {
			if s.next != nil {
				a.finish(s)
			}
		}
	})
}

// Break says whether creations and updates fail and are rolled back.
func (a *Account) Break(broken bool) { a.locked(func() { a.broken = broken }) }

// ChangeByHand changes a resource of a stack, which a look for drift finds.
func (a *Account) ChangeByHand(name, resource string) {
	a.locked(func() { a.stacks[name].byHand = append(a.stacks[name].byHand, resource) })
}

// SetStatus sets a stack's status, whatever it was.
func (a *Account) SetStatus(name, status string) { a.locked(func() { a.stacks[name].status = status }) }

// SetParameter sets a parameter of Systems Manager; empty: removes it.
func (a *Account) SetParameter(name, value string) {
	a.locked(func() {
		if a.parameters[name] = value; value == "" {
			delete(a.parameters, name)
		}
	})
}

// Asked returns what a key asked for, each action once, in alphabetical order.
func (a *Account) Asked(key string) (actions []string) {
	a.locked(func() {
		for _, line := range a.asked {
			if action, ok := strings.CutPrefix(line, key+" "); ok {
				actions = append(actions, action)
			}
		}
	})
	slices.Sort(actions)
	return slices.Compact(actions)
}

// Count returns how many requests there were.
func (a *Account) Count() (n int) {
	a.locked(func() { n = len(a.asked) })
	return n
}

func (a *Account) locked(do func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	do()
}

// credential finds access key and service in a signature of version 4.
var credential = regexp.MustCompile(`Credential=([^/]+)/[0-9]{8}/([^/]+)/([^/]+)/aws4_request`)

const maxRequest = 2 << 20

// ServeHTTP answers one request to any of the services.
func (a *Account) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	request.Body = http.MaxBytesReader(w, request.Body, maxRequest)
	found := credential.FindStringSubmatch(request.Header.Get("Authorization"))
	if found == nil {
		http.Error(w, "unsigned", http.StatusForbidden)
		return
	}
	key, service := found[1], found[3]
	q := query{request: request, service: service}
	action, err := q.read()
	if err == nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.asked = append(a.asked, key+" "+action)
		err = a.admit(key, action, found[2])
	}
	var answer fields
	if err == nil {
		answer, err = a.answer(&q, action)
	}
	q.reply(w, action, answer, err)
}

// fault is an error as AWS says it.
type fault struct {
	code, message string
	status        int
}

func (f *fault) Error() string { return f.code + ": " + f.message }

func invalid(format string, args ...any) error {
	return &fault{"ValidationError", fmt.Sprintf(format, args...), http.StatusBadRequest}
}

func (a *Account) admit(key, action, region string) error {
	policy, known := a.policies[key]
	denied := "AccessDenied"
	if strings.HasPrefix(action, "ssm:") || strings.HasPrefix(action, "servicequotas:") {
		denied = "AccessDeniedException"
	}
	switch {
	case region != Region:
		return &fault{"SignatureDoesNotMatch", "another region", http.StatusForbidden}
	case !known:
		return &fault{"InvalidClientTokenId", "The security token included in the request is invalid.",
			http.StatusForbidden}
	case a.throttled > 0:
		a.throttled--
		return &fault{"Throttling", "Rate exceeded", http.StatusBadRequest}
	case action == "sts:GetCallerIdentity":
		return nil // nobody can be denied that
	case !matches(policy.Allow, action) || matches(policy.Deny, action):
		who := "arn:aws:sts::" + Number + ":assumed-role/" + key + "/session"
		return &fault{denied, "User: " + who + " is not authorized to perform: " + action, http.StatusForbidden}
	}
	return nil
}

func matches(patterns []string, action string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		begin, any := strings.CutSuffix(p, "*")
		return any && strings.HasPrefix(action, begin) || p == action
	})
}

// answer does what is asked.
func (a *Account) answer(q *query, action string) (fields, error) {
	switch action {
	case "sts:GetCallerIdentity":
		key := credential.FindStringSubmatch(q.request.Header.Get("Authorization"))[1]
		return fields{{"Arn", "arn:aws:sts::" + Number + ":assumed-role/" + key + "/session"}, {"Account", Number},
			{"UserId", key}}, nil
	case "ssm:GetParameter":
		value, there := a.parameters[q.text("Name")]
		if !there {
			return nil, &fault{"ParameterNotFound", "", http.StatusBadRequest}
		}
		return fields{{"Parameter", fields{{"Name", q.text("Name")}, {"Type", "String"}, {"Value", value}}}}, nil
	case "ssm:PutParameter":
		a.parameters[q.text("Name")] = q.text("Value")
		return fields{{"Tier", "Standard"}}, nil
	case "servicequotas:GetServiceQuota", "servicequotas:GetAWSDefaultServiceQuota":
		value, there := a.quotas[q.text("ServiceCode")+"/"+q.text("QuotaCode")]
		if !there {
			return nil, &fault{"NoSuchResourceException", "", http.StatusBadRequest}
		}
		return fields{{"Quota", fields{{"QuotaCode", q.text("QuotaCode")}, {"Value", value}}}}, nil
	}
	if name, ok := strings.CutPrefix(action, "cloudformation:"); ok {
		return a.formation(q, name)
	}
	return nil, &fault{"InvalidAction", action, http.StatusBadRequest}
}

// timeText returns a time as AWS's XML has it.
func timeText(at time.Time) string { return at.UTC().Format("2006-01-02T15:04:05.000Z") }
