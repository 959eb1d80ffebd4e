package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/util/keyutil"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"
)

// poll is how often to ask whether something has become ready.
const poll = 50 * time.Millisecond

// apiServer is a kube-apiserver that has been configured.
type apiServer struct {
	options     options.CompletedOptions
	address     string
	certificate string // the file of its certificate, which it writes itself
	token       string // of the administrator
}

// newAPIServer configures an API server with the flags of kube-apiserver. It keeps its data in the etcd at endpoint, and
// its certificates and keys in dir.
func newAPIServer(ctx context.Context, dir, endpoint string) (*apiServer, error) {
	token := rand.Text()
	tokens, keys := filepath.Join(dir, "tokens.csv"), filepath.Join(dir, "service-accounts.key")
	if err := os.WriteFile(tokens, []byte(token+`,admin,admin,system:masters`+"\n"), 0o600); err != nil {
		return nil, err
	}
	key, err := keyutil.MakeEllipticPrivateKeyPEM()
	if err != nil {
		return nil, err
	}
	if err := keyutil.WriteKey(keys, key); err != nil {
		return nil, err
	}
	s := options.NewServerRunOptions()
	flags := pflag.NewFlagSet("kube-apiserver", pflag.ContinueOnError)
	for _, set := range s.Flags().FlagSets {
		flags.AddFlagSet(set)
	}
	err = flags.Parse([]string{
		"--allow-privileged",
		"--authorization-mode=RBAC",
		"--bind-address=127.0.0.1",
		"--cert-dir=" + dir,
		"--endpoint-reconciler-type=none", // a loopback address cannot be an endpoint
		"--etcd-servers=" + endpoint,
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + keys,
		"--service-account-signing-key-file=" + keys,
		"--service-cluster-ip-range=10.96.0.0/16",
		"--token-auth-file=" + tokens,
	})
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.SecureServing.Listener = listener
	s.SecureServing.BindPort = listener.Addr().(*net.TCPAddr).Port
	s.SecureServing.ExternalAddress = listener.Addr().(*net.TCPAddr).IP
	if err := s.GenericServerRunOptions.ComponentGlobalsRegistry.Set(); err != nil {
		return nil, err
	}
	completed, err := s.Complete(ctx)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(completed.Validate()...); err != nil {
		return nil, err
	}
	return &apiServer{
		options:     completed,
		address:     "https://" + listener.Addr().String(),
		certificate: filepath.Join(dir, "apiserver.crt"),
		token:       token,
	}, nil
}

// run serves until ctx is done.
func (s *apiServer) run(ctx context.Context) error {
	if err := app.Run(ctx, s.options); err != nil {
		return fmt.Errorf("run the API server: %w", err)
	}
	return ctx.Err()
}

// waitUntilReady returns the administrator's access once the server is ready.
func (s *apiServer) waitUntilReady(ctx context.Context) (*rest.Config, error) {
	var config *rest.Config
	err := wait.PollUntilContextCancel(ctx, poll, true, func(ctx context.Context) (bool, error) {
		certificate, err := os.ReadFile(s.certificate)
		if err != nil {
			return false, nil //nolint:nilerr // it is not written yet
		}
		config = &rest.Config{
			Host:            s.address,
			BearerToken:     s.token,
			TLSClientConfig: rest.TLSClientConfig{CAData: certificate},
			QPS:             -1, // no limit: nobody else uses the server
		}
		client, err := kubernetes.NewForConfig(config)
		if err != nil {
			return false, err
		}
		return client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error() == nil, nil
	})
	return config, err
}

// writeKubeconfig writes a kubeconfig with the access that config gives to the file at path.
func writeKubeconfig(path string, config *rest.Config) error {
	const name = "kubeagents-cluster"
	file := clientcmdapi.NewConfig()
	file.Clusters[name] = &clientcmdapi.Cluster{Server: config.Host, CertificateAuthorityData: config.CAData}
	file.AuthInfos[name] = &clientcmdapi.AuthInfo{Token: config.BearerToken}
	file.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name, Namespace: "default"}
	file.CurrentContext = name
	return clientcmd.WriteToFile(*file, path)
}
