//! Certificates that change by themselves: from a changed file to the next handshake.

use super::Control;
use crate::{
    control_plane::{
        admin::CertificateStatus,
        certificates::{Reading, Renewed},
        jobs::Finished,
        reload::Change,
    },
    system::clock::Monotonic,
    telemetry::render::CertificateMetrics,
};

impl Control {
    pub(super) fn certificates_changed(&mut self) {
        self.certificates.changed(Monotonic::now());
        // A file that was refused for a certificate may be good now.
        if self.is_watching() {
            let current = self.queue.current.as_ref();
            let is_of_file = current.is_some_and(|attempt| attempt.change == Change::File);
            self.retry.try_again(is_of_file && self.is_preparing());
        }
    }

    pub(super) fn certificates_read(&mut self, finished: Finished<Reading>) {
        let generation = self.running.release.generation;
        let (is_preparing, now) = (self.is_preparing(), Monotonic::now());
        let reading = self.certificates.finished(finished, generation, is_preparing, now);
        let Some(Reading { renewed, seen, .. }) = reading else { return };
        self.watcher.read_certificates(seen);
        if let Some(Renewed { settings, server, .. }) = renewed {
            self.live.set_tls_server(server);
            // The next reload is compared with what runs.
            let old = std::mem::replace(&mut self.running.settings, settings);
            self.preparation.drop_there(old);
        }
    }

    pub(super) fn certificate_status(&self) -> Vec<CertificateStatus<'_>> {
        let tls = self.running.settings.server.tls.iter();
        let pairs = tls.flat_map(|tls| tls.certificates.iter().enumerate());
        pairs
            .map(|(index, pair)| CertificateStatus {
                pair,
                error: self.certificates.problem_of(index),
            })
            .collect()
    }

    pub(super) fn certificate_metrics(&self) -> CertificateMetrics {
        let tls = self.running.settings.server.tls.as_ref();
        let pairs = tls.iter().flat_map(|tls| &tls.certificates);
        let (renewed, failed) = self.certificates.counts();
        CertificateMetrics {
            ends: pairs
                .map(|pair| (pair.certificate.name().into(), pair.certificate.not_after()))
                .collect(),
            renewed,
            failed,
        }
    }
}
