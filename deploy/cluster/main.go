// Cluster runs the control plane of a Kubernetes cluster on this machine, for tests: etcd, the API server with RBAC and
// its default admission plugins, and the controllers of workloads. It has no nodes. Nothing schedules or runs a Pod, so a
// Pod stays pending until a test reports a status for it, as the scheduler and a kubelet would.
//
//	cluster -kubeconfig FILE
//
// It writes the kubeconfig of an administrator to FILE, prints "ready", and ends on SIGTERM, on SIGINT, or when its
// standard input ends, so that it never outlives the test that started it. It listens on a free port of the loopback
// interface only, and keeps its data in a temporary directory, which it removes. It logs to standard error.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
)

func main() {
	path := flag.String("kubeconfig", "", "the file to write the administrator's kubeconfig to")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		io.Copy(io.Discard, os.Stdin) //nolint:errcheck // an error is an end too
		cancel()
	}()
	if err := run(ctx, *path, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "cluster: %v\n", err) //nolint:errcheck // there is nowhere else to report it
		os.Exit(1)
	}
}

// run runs a cluster until ctx is done, and prints "ready" to out as soon as tests can use it.
func run(ctx context.Context, kubeconfig string, out io.Writer) (err error) {
	if kubeconfig == "" {
		return errors.New("-kubeconfig is needed")
	}
	dir, err := os.MkdirTemp("", "kubeagents-cluster-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	etcd, err := startEtcd(dir)
	if err != nil {
		return fmt.Errorf("start etcd: %w", err)
	}
	defer etcd.Close()

	server, err := newAPIServer(ctx, dir, endpoint(etcd))
	if err != nil {
		return fmt.Errorf("configure the API server: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return server.run(ctx) })
	group.Go(func() error {
		config, err := server.waitUntilReady(ctx)
		if err != nil {
			return fmt.Errorf("wait for the API server: %w", err)
		}
		if err := runControllers(ctx, group, config); err != nil {
			return fmt.Errorf("start the controllers: %w", err)
		}
		if err := waitForServiceAccount(ctx, kubernetes.NewForConfigOrDie(config)); err != nil {
			return fmt.Errorf("wait for the controllers: %w", err)
		}
		if err := writeKubeconfig(kubeconfig, config); err != nil {
			return err
		}
		_, err = fmt.Fprintln(out, "ready")
		return err
	})
	if err := group.Wait(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
