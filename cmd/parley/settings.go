package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// Each setting is a flag. What a flag's name is, the other two places follow:
// --max-payload, PARLEY_MAX_PAYLOAD, max-payload in parley.toml.

const envPrefix = "PARLEY_"

func envName(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// applyEnvironment sets the flags that the command line left alone. A list is
// separated by commas.
func applyEnvironment(flags *pflag.FlagSet, lookup func(string) (string, bool)) error {
	var errs []error
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Changed || f.Name == "help" {
			return
		}
		value, ok := lookup(envName(f.Name))
		if !ok || value == "" {
			return
		}
		if err := flags.Set(f.Name, value); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", envName(f.Name), err))
		}
	})
	if err := errors.Join(errs...); err != nil {
		return &usageError{err}
	}
	return nil
}

// applyFile sets the flags that neither the command line nor the environment
// set. values maps a flag's name to its text.
func applyFile(flags *pflag.FlagSet, path string, values map[string]string) error {
	var errs []error
	for name, value := range values {
		f := flags.Lookup(name)
		if f == nil {
			errs = append(errs, fmt.Errorf("%s: %s is no setting", path, name))
			continue
		}
		if f.Changed {
			continue
		}
		if err := flags.Set(name, value); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", path, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return &usageError{err}
	}
	return nil
}
