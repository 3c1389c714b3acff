//! Which programs are needed, and where packets go.

use polc_compiler::compile::CompileOptions;
use polc_compiler::image::PolicyImage;
use polc_compiler::ir::{DecisionData, Direction};
use polc_compiler::resolve::{Cluster, Endpoint};
use polc_runtime::replay::Owners;
use polc_runtime::{Attachment, AttachmentSpec};

use crate::commands::EndpointArg;
use crate::exit::Failure;
use crate::programs::{self, Program, Programs};

/// Everything that a replay needs to know beside the engine.
pub struct Plan {
    /// Distinct programs.
    pub programs: Vec<Program>,
    /// By [`Attachment`].
    pub places: Vec<Place>,
    /// Who owns which address.
    pub owners: Owners,
}

/// One endpoint and direction.
pub struct Place {
    /// `namespace/name`, or a host endpoint's name.
    pub name: String,
    /// Number of the endpoint, shared by its two directions.
    pub endpoint: u32,
    /// Direction.
    pub direction: Direction,
    /// Index into [`Plan::programs`].
    pub program: usize,
}

impl Plan {
    /// Compiles what the endpoints with an address need: nothing else can own a packet.
    pub fn new(
        cluster: &Cluster,
        named: &[EndpointArg],
        directions: &[Direction],
        options: &CompileOptions,
    ) -> Result<Self, Failure> {
        Self::of(cluster, &programs::endpoints(cluster, named)?, directions, options)
    }

    /// As [`Self::new`], for these endpoints.
    pub fn of(
        cluster: &Cluster,
        endpoints: &[Endpoint],
        directions: &[Direction],
        options: &CompileOptions,
    ) -> Result<Self, Failure> {
        let mut programs = Programs::new(options);
        let mut places = Vec::new();
        let mut owners = Owners::default();
        for endpoint in endpoints.iter().copied() {
            let data = &cluster.endpoints()[endpoint];
            if data.ips.is_empty() {
                continue;
            }
            for direction in directions.iter().copied() {
                let program = programs.endpoint(cluster, endpoint, direction)?;
                let at = Attachment(places.len() as u32);
                data.ips.iter().for_each(|ip| owners.add(*ip, at, direction));
                places.push(Place {
                    name: data.display_name(),
                    endpoint: endpoint.as_u32(),
                    direction,
                    program,
                });
            }
        }
        Ok(Self { programs: programs.into_list(), places, owners })
    }

    /// The place behind an attachment.
    pub fn place(&self, at: Attachment) -> &Place {
        &self.places[at.0 as usize]
    }

    /// The image of an attachment.
    pub fn image(&self, at: Attachment) -> &PolicyImage {
        &self.programs[self.place(at).program].image
    }

    /// A decision of an attachment's image.
    pub fn decision(&self, at: Attachment, index: u32) -> Option<&DecisionData> {
        self.image(at).decisions.get(index as usize)
    }

    /// All attachments, in order.
    pub fn attachments(&self) -> impl Iterator<Item = Attachment> + use<> {
        (0..self.places.len() as u32).map(Attachment)
    }

    /// What engines are made with.
    pub fn specs(&self) -> Vec<AttachmentSpec<'_>> {
        let spec = |at| {
            let place = self.place(at);
            AttachmentSpec { endpoint: place.endpoint, direction: place.direction, image: self.image(at) }
        };
        self.attachments().map(spec).collect()
    }
}
