package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// interruptible returns a context that SIGINT and SIGTERM end.
func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
}

// exitKilled is the exit code of a process that a second signal ended: 128 and
// SIGINT's number, as a shell tells it.
const exitKilled = 130

// stoppable is interruptible for a program that needs time to stop: a second
// signal ends the process at once. A terminal that is closed stops it too, unless
// it was started to survive that (nohup).
func stoppable(ctx context.Context, warn func()) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(signals, syscall.SIGHUP)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-signals:
			warn()
			cancel()
		case <-ctx.Done():
			return
		}
		if _, ok := <-signals; ok {
			os.Exit(exitKilled)
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel()
		close(signals) // nothing sends to it after Stop
		<-ended
	}
}
