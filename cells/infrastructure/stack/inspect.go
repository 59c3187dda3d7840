package stack

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/cells/agent/preflight"
	"github.com/sluice-cd/sluice/internal/aws"
)

// Inspect looks whether the agent has what it needs of AWS: credentials, permissions, quotas, and ways to the endpoints
// that it and the cell's cluster use. A cell whose infrastructure can't be read works nevertheless, so all faults are
// notes.
func (r *Reader) Inspect(ctx context.Context) (all []preflight.Finding) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.connect(ctx); err != nil {
		return []preflight.Finding{note("aws", err)}
	}
	who, account, err := r.aws.whoAsks(ctx)
	if err != nil {
		all = append(all, note("aws", err))
	} else {
		all = append(all, preflight.Finding{Check: "aws", Found: who})
	}
	faults := r.tryPermissions(ctx)
	for _, fault := range faults {
		all = append(all, note("permission", fault))
	}
	if len(faults) == 0 {
		all = append(all, preflight.Finding{Check: "permission", Found: "the agent may read " +
			strings.Join(r.options.Stacks, ", ")})
	}
	for _, q := range r.options.Quotas {
		value, err := r.aws.quota(ctx, q)
		q.Value = value
		switch {
		case err != nil:
			all = append(all, note("quota", err))
		case q.IsShort():
			all = append(all, preflight.Finding{Check: "quota", Note: true, Fault: q.String(),
				Remedy: "request more in the console: Service Quotas, " + q.Service + ", " + q.Code})
		default:
			all = append(all, preflight.Finding{Check: "quota", Found: q.String()})
		}
	}
	hosts := r.options.Endpoints
	if hosts == nil && r.aws.client.OwnEndpoint(ctx, formation) == "" { // AWS_ENDPOINT_URL names no AWS of the region
		hosts = endpointsOf(r.aws.region, account)
	}
	return append(all, dialEndpoints(ctx, hosts, r.aws.region)...)
}

func note(check string, err error) preflight.Finding {
	f := preflight.Finding{Check: check, Note: true, Fault: err.Error(), Remedy: "mend that; the agent tries again"}
	if e := new(Error); errors.As(err, &e) {
		f.Fault, f.Remedy = e.Fault, e.Remedy
	}
	return f
}

// tryPermissions makes each request that reads make, and returns what failed. It starts no look for drift.
func (r *Reader) tryPermissions(ctx context.Context) (faults []error) {
	try := func(err error) {
		if err != nil {
			faults = append(faults, err)
		}
	}
	there := true
	for _, name := range r.options.Stacks {
		_, err := r.aws.describe(ctx, name)
		try(err)
		if there = err == nil; !there {
			continue // what follows would fail for the same reason
		}
		_, err = r.aws.changeSets(ctx, name)
		try(err)
		_, err = r.aws.driftedResources(ctx, name)
		try(err)
	}
	if !there { // the last one is not
		return faults
	}
	last := r.options.Stacks[len(r.options.Stacks)-1]
	_, err := r.aws.metadata(ctx, last)
	try(err)
	_, err = r.aws.version(ctx, last)
	try(err)
	return faults
}

// endpointsOf returns where the services are that a private cluster needs, by the name of their endpoint. The agent's
// own requests show the others.
func endpointsOf(region, account string) map[string]string {
	end := "." + region + "." + aws.Suffix(region) + ":443"
	all := map[string]string{"ecr.api": "api.ecr" + end, "s3": "s3" + end}
	for _, service := range []string{"ec2", "eks", "logs", "elasticloadbalancing"} {
		all[service] = service + end
	}
	if account != "" {
		all["ecr.dkr"] = account + ".dkr.ecr" + end
	}
	return all
}

const dialTimeout = 3 * time.Second

// dialEndpoints opens a connection to each endpoint, and closes it.
func dialEndpoints(ctx context.Context, hosts map[string]string, region string) (all []preflight.Finding) {
	names := slices.Sorted(maps.Keys(hosts))
	faults := make([]error, len(names))
	var dials sync.WaitGroup
	for i, name := range names {
		dials.Go(func() {
			dialer := net.Dialer{Timeout: dialTimeout}
			c, err := dialer.DialContext(ctx, "tcp", hosts[name])
			if err == nil {
				_ = c.Close()
			}
			faults[i] = err
		})
	}
	dials.Wait()
	var open []string
	for i, name := range names {
		if faults[i] == nil {
			open = append(open, name)
			continue
		}
		f := preflight.Finding{Check: "endpoint", Note: true, Fault: "there is no way to AWS's " + name + " from here",
			Remedy: endpointRemedy(name, region)}
		if name == "s3" {
			f.Remedy = "make a gateway endpoint com.amazonaws." + region + ".s3 with the routes of the cell's subnets"
		}
		all = append(all, f)
	}
	if len(open) > 0 {
		all = append(all, preflight.Finding{Check: "endpoint", Found: "there is a way to " + strings.Join(open, ", ")})
	}
	return all
}
