# A kind node: Debian with kind's own files, kubelet and kubeadm. The system images are put in afterwards.
ARG ROOTFS
FROM $ROOTFS
COPY files/ /
COPY bin/ /usr/bin/
COPY pod-routes /usr/local/bin/
COPY pod-routes.service /etc/systemd/system/
# systemd in a container must not start what belongs to a machine.
RUN find /lib/systemd/system/sysinit.target.wants/ -name systemd-tmpfiles-setup.service -delete \
 && rm -f /etc/systemd/system/*.wants/* /lib/systemd/system/containerd.service \
      /lib/systemd/system/multi-user.target.wants/* /lib/systemd/system/local-fs.target.wants/* \
      /lib/systemd/system/basic.target.wants/* /lib/systemd/system/sockets.target.wants/*udev* \
      /lib/systemd/system/sockets.target.wants/*initctl* \
 && echo ReadKMsg=no >> /etc/systemd/journald.conf \
 && ln -sf /lib/systemd/systemd /sbin/init
# kind's files expect its own builds' places; lowering an OOM score needs a capability that not every machine can give.
# Three nodes share a machine of two cores. Go's monitor thread sleeps 20 µs at a time while a program does anything: with a
# slack, which all of a node's processes inherit, an idle cluster takes half as much of it. A hook of kind's gives each
# container the machine's product name, by bash and jq, which nothing here asks for. And crun, in the place of runc, makes
# and ends a container with less of the processor's time; pods that serve go before those that are being made.
RUN chmod 0755 /usr/local/bin/* /kind /kind/bin /kind/bin/* && chmod -R go+rX /etc/containerd /etc/systemd /kind \
 && ln -s /usr/bin/containerd /usr/bin/ctr /usr/local/bin/ && ln -s /usr/bin/crun /usr/local/sbin/runc \
 && mkdir -p /opt/cni /etc/cni/net.d /etc/systemd/system.conf.d /etc/systemd/system/kubelet.slice.d /etc/kubernetes/manifests /kind/manifests && ln -s /usr/lib/cni /opt/cni/bin \
 && sed -i 's/restrict_oom_score_adj = false/restrict_oom_score_adj = true/' /etc/containerd/config.toml \
 && ctr oci spec | jq 'del(.process.rlimits)' > /etc/containerd/cri-base.json \
 && printf '[Slice]\nCPUWeight=800\n' > /etc/systemd/system/kubelet.slice.d/weight.conf \
 && printf '[Manager]\nTimerSlackNSec=5ms\n' > /etc/systemd/system.conf.d/timer-slack.conf \
 && systemctl enable kubelet containerd undo-mount-hacks pod-routes && systemctl mask systemd-binfmt
ARG KUBERNETES
RUN echo "$KUBERNETES" > /kind/version && : > /kind/manifests/default-cni.yaml
ENV container=docker
STOPSIGNAL SIGRTMIN+3
ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]
