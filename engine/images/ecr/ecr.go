// Package ecr gets tokens for private registries of Amazon ECR, by the identity that this process has on AWS: a pod's
// or a machine's role, files, or the environment.
//
// It keeps no token, and its errors hold neither tokens nor AWS's own words, which name roles and sessions. All
// functions may be called at once.
package ecr

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/internal/aws"
)

const perToken = 20 * time.Second // tries included

// Registry is a private registry of an account in a region.
type Registry struct{ region, suffix string }

// ParseHost reads a registry's host, such as 123456789012.dkr.ecr.eu-central-1.amazonaws.com; ok is false if it is none
// of ECR's.
func ParseHost(host string) (r Registry, ok bool) {
	parts := strings.Split(host, ".")
	if len(parts) < 6 || len(parts[0]) != 12 || strings.Trim(parts[0], "0123456789") != "" || parts[1] != "dkr" ||
		parts[2] != "ecr" && parts[2] != "ecr-fips" || parts[3] == "" ||
		strings.Trim(parts[3], "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return Registry{}, false
	}
	r = Registry{parts[3], strings.Join(parts[4:], ".")}
	return r, r.suffix == aws.Suffix(r.region)
}

// Storage returns the host to which the registry leads for layers.
func (r Registry) Storage() string {
	return "prod-" + r.region + "-starport-layer-bucket.s3." + r.region + "." + r.suffix
}

// Token is what one signs in with.
type Token struct {
	User, Password string
	Life           time.Duration // how long it is valid from now on
}

// Token asks AWS for a token.
func (r Registry) Token(ctx context.Context) (t Token, err error) {
	ctx, cancel := context.WithTimeout(ctx, perToken)
	defer cancel()
	client, err := aws.Connect(ctx, r.region)
	if err != nil {
		return t, errors.New("the configuration for AWS can't be read: check AWS_CONFIG_FILE, AWS_PROFILE and " +
			"AWS_CA_BUNDLE of the control plane")
	}
	if !client.HasCredentials(ctx) {
		return t, errors.New("the control plane has no credentials for AWS: give its pod or its machine a role that " +
			"may pull, or name a credential helper in credHelpers")
	}
	var answer struct {
		Data []struct {
			Token   string  `json:"authorizationToken"`
			Expires float64 `json:"expiresAt"` // seconds since 1970
		} `json:"authorizationData"`
	}
	err = client.JSON(ctx, aws.Service{Name: "ecr", Host: "api.ecr"},
		"AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken", struct{}{}, &answer)
	if err != nil {
		return t, r.explain(err)
	}
	const strange = "AWS's answer to ecr:GetAuthorizationToken holds no token"
	if len(answer.Data) != 1 || math.Abs(answer.Data[0].Expires) > 1e11 {
		return t, errors.New(strange)
	}
	text, err := base64.StdEncoding.DecodeString(answer.Data[0].Token)
	user, password, ok := strings.Cut(string(text), ":")
	if err != nil || !ok || password == "" {
		return t, errors.New(strange)
	}
	return Token{user, password, time.Until(time.UnixMilli(int64(answer.Data[0].Expires * 1000)))}, nil
}

// explain says why there is no token.
func (r Registry) explain(err error) error {
	code := aws.CodeOf(err)
	switch {
	case aws.IsThrottled(code):
		return errors.New("AWS limits requests of ecr:GetAuthorizationToken: they are tried again")
	case aws.IsDenied(code):
		return errors.New("AWS denies the control plane ecr:GetAuthorizationToken: allow it in its role")
	case aws.IsUnknown(code):
		return fmt.Errorf("AWS does not accept the control plane's credentials (%s): check its role and the machine's clock",
			code)
	case code != "":
		return fmt.Errorf("AWS refuses ecr:GetAuthorizationToken (%s)", code)
	}
	return fmt.Errorf("AWS can't be asked for ecr:GetAuthorizationToken: the control plane needs a way to api.ecr.%s.%s",
		r.region, r.suffix)
}
